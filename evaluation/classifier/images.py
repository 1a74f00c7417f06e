"""Images with a label, a group and a center each, and what must hold between training and test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptopt.base.errors import PromptoptError


class ClassifierError(PromptoptError, ValueError):
    """The images do not allow this comparison; the message names the class, group or file and the remedy."""


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """One set of images, as a learner reads them.

    Attributes:
        inputs: shape (n, d), features for a probe; (n, height, width, 3), uint8 pixels for a network.
        labels: n names of classes.
        groups: n names; near-duplicates share one. A group never lies in a training and a test set at once.
        centers: n names of hospitals (or of generators), for the tables by center.

    Raises:
        ClassifierError: lengths that differ, an empty name, or features that are not finite.

    Example:
        >>> import numpy as np
        >>> images = LabeledImages.of(np.zeros((2, 4)), ["polyp", "normal"], name="real", center="north")
        >>> len(images), images.groups
        (2, ('real-0', 'real-1'))
    """

    inputs: NDArray[Any]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    centers: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("labels", "groups", "centers"):
            values = tuple(str(value) for value in getattr(self, name))
            if len(values) != len(self.inputs):
                raise ClassifierError(
                    f"{len(self.inputs)} images and {len(values)} {name}; give one for each"
                )
            if "" in values:
                raise ClassifierError(f"{name}[{values.index('')}] is empty; give every image a name there")
            object.__setattr__(self, name, values)
        if self.inputs.ndim not in (2, 4):
            raise ClassifierError(
                f"inputs has shape {self.inputs.shape}; expected features (n, d) or pixels (n, h, w, 3)"
            )
        if self.inputs.ndim == 2:
            bad = np.flatnonzero(~np.isfinite(self.inputs).all(axis=1))
            if len(bad):
                raise ClassifierError(
                    f"inputs: row {bad[0]} holds a NaN or an infinity; leave the image out or encode it again"
                )

    @classmethod
    def of(
        cls,
        inputs: NDArray[Any],
        labels: Sequence[str],
        *,
        name: str,
        groups: Sequence[str] | None = None,
        center: str = "unknown",
    ) -> LabeledImages:
        """A set of one center; without `groups` every image is a group of its own, named after `name`."""
        own = [f"{name}-{i}" for i in range(len(labels))] if groups is None else groups
        return cls(inputs, tuple(labels), tuple(own), (center,) * len(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> LabeledImages:
        """The images at these positions, in this order."""
        index = np.asarray(rows, dtype=np.int64)
        names = [tuple(values[i] for i in index) for values in (self.labels, self.groups, self.centers)]
        return LabeledImages(self.inputs[index], *names)

    def joined(self, other: LabeledImages) -> LabeledImages:
        """These images, then the others."""
        return LabeledImages(
            np.concatenate([self.inputs, other.inputs]),
            self.labels + other.labels,
            self.groups + other.groups,
            self.centers + other.centers,
        )

    def split(self, share: float, *, seed: int) -> tuple[LabeledImages, LabeledImages]:
        """Two parts, the second with about `share` of each label's groups; no group is cut.

        Raises:
            ClassifierError: a label with a single group, which cannot be on both sides.
        """
        first, second = split_rows(self.labels, self.groups, share=share, seed=seed)
        return self.take(first), self.take(second)


def split_rows(
    labels: Sequence[str], groups: Sequence[str], *, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of two parts, the second with about `share` of each label's groups; no group is cut.

    Raises:
        ClassifierError: a label with a single group, which cannot be on both sides, or a wrong `share`.
    """
    if not 0 < share < 1:
        raise ClassifierError(f"share is {share}; expected more than 0 and less than 1, say 0.25")
    rng = np.random.default_rng(seed)
    home: dict[str, str] = {}  # group -> label of its first image
    for group, label in zip(groups, labels, strict=True):
        home.setdefault(group, label)
    second: set[str] = set()
    for label in sorted(set(home.values())):
        own = sorted(group for group, first in home.items() if first == label)
        if len(own) < 2:
            raise ClassifierError(
                f"class {label!r} has a single group ({own[0]!r}), so no image of it can be held out; "
                "add images, or leave the class out"
            )
        count = min(max(1, round(share * len(own))), len(own) - 1)
        second.update(own[i] for i in rng.permutation(len(own))[:count])
    inside = np.array([group in second for group in groups], dtype=bool)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def check_classes(training: Mapping[str, LabeledImages], test: Mapping[str, LabeledImages]) -> list[str]:
    """The sorted classes, which every set must hold: two images each to train on, one to test on.

    Raises:
        ClassifierError: an empty set, a single class, or a class that one set lacks; names set and class.
    """
    sets = {**training, **test}
    for name, images in sets.items():
        if not len(images):
            raise ClassifierError(f"{name}: no image; check the folder and its pools")
    classes = sorted({label for images in sets.values() for label in images.labels})
    if len(classes) < 2:
        raise ClassifierError(
            f"there is only one class, {classes[0]!r}; a classifier needs two or more: "
            "add images of another label"
        )
    for part, least, verb in ((training, 2, "train on"), (test, 1, "test on")):
        for name, images in part.items():
            counts = Counter(images.labels)
            for label in classes:
                if counts[label] < least:
                    raise ClassifierError(
                        f"{name}: {counts[label]} images of class {label!r}, and {least} are needed to {verb}"
                        f" ({name} holds {_list(counts)}); add images, or leave the class out"
                    )
    return classes


def check_disjoint(training: Mapping[str, LabeledImages], test: Mapping[str, LabeledImages]) -> None:
    """Refuse a group on both sides: its near-duplicates would be known by heart.

    Raises:
        ClassifierError: names the group and both sets.
    """
    for first, known in training.items():
        groups = set(known.groups)
        for second, images in test.items():
            for group in images.groups:
                if group in groups:
                    raise ClassifierError(
                        f"group {group!r} lies in {first} and in {second}, so the test would be on images "
                        "already seen; keep a group on one side (or rename it, if two data sets use the "
                        "name for different images)"
                    )


def _list(counts: Mapping[str, int]) -> str:
    shown = [f"{label!r} {count}" for label, count in sorted(counts.items())]
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")
