"""A run in optuna-dashboard, with the images of every prompt."""
