"""Making images elsewhere than in this process: other processes, a Ray cluster. The bytes are the same."""
