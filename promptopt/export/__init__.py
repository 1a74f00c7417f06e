"""What a study hands over: the prompt list and the tables."""
