"""What every training loop of the project shares."""
