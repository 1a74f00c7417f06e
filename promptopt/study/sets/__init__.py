"""A study that searches a set of prompts for each class of the user's classifier."""
