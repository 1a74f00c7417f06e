"""Why a training cannot begin or go on."""

from promptopt.base.errors import PromptoptError


class TrainingError(PromptoptError, RuntimeError):
    """The settings, the starting weights or the checkpoint do not allow this training, or it cannot go on."""


class TrainingDataError(PromptoptError, ValueError):
    """Training data cannot be used; the message names the file and the remedy."""
