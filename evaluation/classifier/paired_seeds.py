"""Differences between two ways to train, over training seeds and groups of test images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.scores import confusion
from evaluation.estimate import Estimate
from evaluation.inference.bootstrap import FEWEST_GROUPS, GroupBootstrap, interval_estimate, p_value

Array = NDArray[np.float64]

FEWEST_SEEDS = 3
"""Below so many training seeds an estimate is ``unreliable``."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Balanced accuracies of one way to train: `values` (seeds,), `replicates` (resamples, seeds)."""

    values: Array
    replicates: Array

    def __sub__(self, other: Scored) -> Scored:
        return Scored(self.values - other.values, self.replicates - other.replicates)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One way to train minus another; `p` two-sided, None where there are too few groups."""

    estimate: Estimate
    p: float | None


class Resampling:
    """Draws of test groups and of seeds, the same for every way to train, so that differences are paired.

    Groups are drawn within strata as in `evaluation.inference.bootstrap`; of S seeds S - 1 are drawn, so
    that the variance of a mean over seeds comes out unbiased as well (Rao and Wu 1988). The two are drawn
    independently (pigeonhole bootstrap, Owen 2007). Degrees of freedom by Satterthwaite from the variances
    of the two: a difference that hangs on five seeds has four, whatever the number of test images.

    Args:
        truth: index of each test image's class, shape (n,).
        groups: of the test images.
        seeds: number of training seeds.
    """

    def __init__(
        self,
        truth: NDArray[np.int64],
        groups: Sequence[str],
        *,
        classes: Sequence[str],
        seeds: int,
        resamples: int = 2000,
        level: float = 0.95,
    ) -> None:
        self._truth, self._level, self._seeds = truth, level, seeds
        labels = [classes[index] for index in truth]
        self._draws = GroupBootstrap.draw(groups, labels, resamples=resamples, rng=np.random.default_rng(31))
        if seeds > 1:
            rng = np.random.default_rng(32)
            drawn = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=resamples)
            self._shares = drawn / (seeds - 1)
        else:
            self._shares = np.ones((resamples, 1))

    def score(self, probabilities: Sequence[Array]) -> Scored:
        """Of one array (n, classes) for each seed."""
        values, replicates = [], []
        for one in probabilities:
            values.append(float(_balanced(confusion(self._truth, one))[0]))
            replicates.append(_balanced(confusion(self._truth, one, self._draws.weights)))
        return Scored(np.array(values), np.stack(replicates, axis=1))

    def estimate(self, scored: Scored) -> Estimate:
        """Mean over seeds of the balanced accuracy, 0 to 1."""
        return self._estimate(scored, "balanced accuracy", bounds=(0.0, 1.0))

    def difference(self, first: Scored, second: Scored) -> Difference:
        """`first` minus `second`, -1 to 1."""
        change = first - second
        combined = self._combined(change)
        freedom = self._freedom(change)
        return Difference(
            estimate=self._estimate(change, "difference of balanced accuracies, paired", bounds=(-1.0, 1.0)),
            p=p_value(combined, freedom),
        )

    def _estimate(self, scored: Scored, what: str, *, bounds: tuple[float, float]) -> Estimate:
        draws = self._draws
        fewest = min(draws.class_groups.values())
        return interval_estimate(
            float(scored.values.mean()),
            self._combined(scored),
            n=len(self._truth),
            freedom=self._freedom(scored),
            method=f"{what}, mean of {self._seeds} seeds, bootstrap over seeds and {draws.groups} groups",
            level=self._level,
            reliable=fewest >= FEWEST_GROUPS and self._seeds >= FEWEST_SEEDS,
            bounds=bounds,
        )

    def _combined(self, scored: Scored) -> Array:
        return np.asarray((scored.replicates * self._shares).sum(axis=1))

    def _freedom(self, scored: Scored) -> int:
        of_groups = float(scored.replicates.mean(axis=1).var())
        if self._seeds < 2:
            return self._draws.freedom
        of_seeds = float(scored.values.var(ddof=1)) / self._seeds
        if of_groups + of_seeds == 0:
            return self._draws.freedom
        parts = of_seeds**2 / (self._seeds - 1) + of_groups**2 / max(self._draws.freedom, 1)
        return max(1, int((of_groups + of_seeds) ** 2 / parts))


def _balanced(tables: NDArray[Any]) -> Array:
    hits = np.diagonal(tables, axis1=1, axis2=2)
    return np.asarray((hits / tables.sum(axis=2)).mean(axis=1))
