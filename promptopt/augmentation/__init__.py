"""Augmentation sets from studies' portfolios, and whether they help a classifier of real images."""

from promptopt.augmentation.filters import FILTERS, Reference
from promptopt.augmentation.results import AugmentationSet, ClassResult
from promptopt.augmentation.run import ATTEMPTS, augment
from promptopt.augmentation.sources import (
    AugmentationError,
    ClassSource,
    SourcePrompt,
    by_hand,
    read_run,
)

__all__ = [
    "ATTEMPTS",
    "FILTERS",
    "AugmentationError",
    "AugmentationSet",
    "ClassResult",
    "ClassSource",
    "Reference",
    "SourcePrompt",
    "augment",
    "by_hand",
    "read_run",
]
