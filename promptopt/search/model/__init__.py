"""The model over slots: what words and pairs of words do to a score."""
