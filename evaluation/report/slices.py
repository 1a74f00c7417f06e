"""The parts of two sets that are measured: all images, those of a category, of a center, of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from evaluation.estimate import Estimate
from evaluation.features.image_set import ImageSet

ALL = "all"
KEYS = ("category", "center")

FEWEST = 16
"""Below so many images of either set nothing about a part is more than a hint: no interval of the metrics was
seen to cover there."""


@dataclass(frozen=True, eq=False)
class Part:
    """Positions of the images of both sets, and what they share (``all``, ``category=polyps``...)."""

    name: str
    of_real: NDArray[np.intp]
    of_generated: NDArray[np.intp]

    def marked(self, estimate: Estimate) -> Estimate:
        """The estimate, ``unreliable`` if the part is a small one (not for all images together)."""
        fewest = min(len(self.of_real), len(self.of_generated))
        if self.name == ALL or fewest >= FEWEST or estimate.status != "ok":
            return estimate
        method = f"{estimate.method}; fewer than {FEWEST} images of a set in this part"
        return replace(estimate, status="unreliable", method=method)


def parts_of(real: ImageSet, generated: ImageSet, by: Sequence[str], *, cross: bool = False) -> list[Part]:
    """All images, then each value of each key, then (`cross`) each combination that either set has.

    A set that does not know a key stands whole in each of its values.
    """
    found = [_part(ALL, real, generated, {})]
    values = {key: _values(real, generated, key) for key in by}
    found += [_part(f"{key}={value}", real, generated, {key: value}) for key in by for value in values[key]]
    if cross and len(by) > 1:
        for combination in product(*(values[key] for key in by)):
            chosen = dict(zip(by, combination, strict=True))
            name = ", ".join(f"{key}={value}" for key, value in chosen.items())
            part = _part(name, real, generated, chosen)
            if len(part.of_real) or len(part.of_generated):
                found.append(part)
    return found


def _values(real: ImageSet, generated: ImageSet, key: str) -> list[str]:
    return sorted({value for images in (real, generated) for value in images.columns.get(key, ())})


def _part(name: str, real: ImageSet, generated: ImageSet, chosen: dict[str, str]) -> Part:
    return Part(name, _rows(real, chosen), _rows(generated, chosen))


def _rows(images: ImageSet, chosen: dict[str, str]) -> NDArray[np.intp]:
    inside = np.ones(len(images), dtype=bool)
    for key, value in chosen.items():
        mine = np.zeros(len(images), dtype=bool)
        mine[images.rows(key, value)] = True
        inside &= mine
    return np.flatnonzero(inside)
