"""Sets of Gaussian features with planted classes."""

from collections.abc import Sequence

import numpy as np

from evaluation.classifier.images import LabeledImages

NAMES = ("cecum", "polyp", "pylorus", "z-line")


def clouds(
    n: int,
    *,
    seed: int,
    name: str,
    classes: int = 2,
    gap: float = 3.0,
    each: int = 1,
    d: int = 8,
    centers: Sequence[str] = ("north",),
) -> LabeledImages:
    """n images in groups of `each` alike ones; class c is shifted by `gap` along axis c."""
    rng = np.random.default_rng(seed)
    groups = n // each
    kinds = np.arange(groups) % classes
    x = rng.normal(size=(groups, d))
    x[np.arange(groups), kinds] += gap
    row = np.repeat(np.arange(groups), each)
    return LabeledImages(
        x[row],
        tuple(NAMES[kinds[i]] for i in row),
        tuple(f"{name}-{i}" for i in row),
        tuple(centers[i // classes % len(centers)] for i in row),
    )


def relabeled(images: LabeledImages, labels: Sequence[str]) -> LabeledImages:
    """The same images under other labels."""
    return LabeledImages(images.inputs, tuple(labels), images.groups, images.centers)
