"""Errors that training raises on purpose."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


class TrainingDataError(ValueError):
    """Training data cannot be used; the message names the file and the remedy."""
