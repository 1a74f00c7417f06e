"""May an encoder judge a category? Its zero-shot AUROC on real images says so, before anything generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evaluation.estimate import Estimate
from evaluation.metrics.alignment import ClassWeights, margins
from evaluation.metrics.auroc import auroc
from promptopt.base.errors import ArgumentError, PromptoptError

FLOOR = 0.7
"""Least AUROC on real images with which an encoder may judge a category (0.5 is guessing)."""


class CalibrationError(PromptoptError, ValueError):
    """An encoder does not recognize a category on real images well enough to judge generated ones."""


@dataclass(frozen=True)
class Calibration:
    """How well an encoder's margin tells each category from the rest, on real images.

    Attributes:
        auroc: category -> AUROC of its margin, its real images against those of the other categories;
            ``undefined`` where the real set lacks either.
        floor: what a category's AUROC must reach.

    Example:
        >>> from evaluation import Estimate
        >>> known = Estimate(0.91, 0.87, 0.94, 60, "AUROC", "ok")
        >>> Calibration({"polyps": known}, floor=0.8).passes("polyps")
        True
    """

    auroc: Mapping[str, Estimate]
    floor: float

    def passes(self, category: str) -> bool:
        """Whether the AUROC is known and reaches the floor."""
        value = self._of(category).value
        return value is not None and value >= self.floor

    def require(self, category: str) -> Estimate:
        """The AUROC of a category that passes.

        Raises:
            CalibrationError: below the floor, not known, or a category that was not calibrated.
        """
        estimate = self._of(category)
        if estimate.value is None:
            raise CalibrationError(
                f"category {category!r}: no AUROC on real images: they must show it and others too; add such "
                "images, or allow an uncalibrated judge"
            )
        if not self.passes(category):
            interval = "" if estimate.low is None else f", {estimate.low:.3f} to {estimate.high:.3f}"
            raise CalibrationError(
                f"category {category!r}: AUROC {estimate.value:.3f} on real images (n = {estimate.n}"
                f"{interval}) is below {self.floor:g}; use another encoder or other texts, or allow an "
                "uncalibrated judge"
            )
        return estimate

    def to_dict(self) -> dict[str, Any]:
        """Ready to stand inside a larger JSON document."""
        return {"floor": self.floor, "auroc": {name: value.to_dict() for name, value in self.auroc.items()}}

    def _of(self, category: str) -> Estimate:
        if category not in self.auroc:
            raise CalibrationError(
                f"category {category!r} was not calibrated; known are {', '.join(self.auroc) or 'none'}"
            )
        return self.auroc[category]


def calibrate(
    features: ArrayLike,
    categories: Sequence[str],
    weights: ClassWeights | Mapping[str, ClassWeights],
    *,
    groups: Sequence[str] | None = None,
    floor: float = FLOOR,
    allow_below: bool = False,
    level: float = 0.95,
) -> Calibration:
    """Zero-shot AUROC of each category's margin on real images.

    Args:
        features: of real images, shape (n, dim), of the encoder that made the weights.
        categories: what each of them shows.
        weights: of the categories and distractors; or one set of weights for each category that is judged.
            A class is calibrated when it is a category of the images or has weights of its own.
        groups: of the images; near-duplicates share one. Without it they are taken to be independent.
        floor: in [0, 1].
        allow_below: return a calibration in which a category fails, instead of refusing.
        level: coverage of the intervals (of `auroc`: groups resampled, or DeLong's).

    Raises:
        CalibrationError: a category's AUROC is below the floor or undefined, and `allow_below` is not set;
            or no class of the weights is a category of the images.
        ValueError: lengths that differ, a floor outside [0, 1].
    """
    names = np.asarray(categories, dtype=object)
    rows = np.asarray(features)
    if len(names) != len(rows):
        raise ArgumentError(f"{len(rows)} images and {len(names)} categories; give one for each image")
    if not 0 <= floor <= 1:
        raise ArgumentError(f"floor is {floor!r}; expected an AUROC from 0 to 1")
    if isinstance(weights, ClassWeights):
        present = set(names.tolist())
        own = {name: weights for name in weights.names if name in present}
    else:
        own = dict(weights)
    if not own:
        known = ", ".join(weights.names) if isinstance(weights, ClassWeights) else "none"
        raise CalibrationError(
            f"the images show {', '.join(sorted(map(str, set(names.tolist())))) or 'nothing'}, "
            f"the texts describe {known}; give images of a category that has texts"
        )
    found = {
        name: auroc(margins(rows, own[name], target=name), names == name, groups=groups, level=level)
        for name in own
    }
    result = Calibration(found, floor)
    if not allow_below:
        for name in found:
            result.require(name)
    return result
