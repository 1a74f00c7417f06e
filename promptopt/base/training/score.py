"""A figure of a model while it is trained."""

from typing import NamedTuple


class Score(NamedTuple):
    """A figure of a set of images, and which way is better."""

    value: float
    lower_is_better: bool
