"""Intervals and p-values from resampled groups of test images.

Frames of one examination are not independent: whole groups are drawn, never images. Groups are drawn within
strata (the set of labels a group holds), so that every replicate holds every class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import Estimate, Status, check_level, wilson
from promptopt.base.errors import ArgumentError

Array = NDArray[np.float64]

FEWEST_GROUPS = 10
"""Below so many test groups (of a class, where classes count) an estimate is ``unreliable``."""


@dataclass(frozen=True, eq=False)
class GroupBootstrap:
    """Weights of the images in each replicate.

    In a stratum of m groups, m - 1 are drawn and weigh m / (m - 1) each (Rao and Wu 1988): the variance of a
    mean then comes out unbiased, where drawing m makes it too small by (m - 1) / m. The group of a stratum
    of one stays as it is.

    Attributes:
        weights: shape (replicates, n).
        freedom: groups minus strata, the degrees of freedom of the interval.
        groups: number of groups.
        class_groups: label -> number of groups that hold it.
    """

    weights: Array
    freedom: int
    groups: int
    class_groups: dict[str, int]

    @classmethod
    def draw(
        cls, groups: Sequence[str], labels: Sequence[str], *, resamples: int, rng: np.random.Generator
    ) -> GroupBootstrap:
        """Resample the groups of n images.

        Raises:
            ValueError: `groups` and `labels` of different lengths, or fewer than 100 `resamples`.
        """
        if len(groups) != len(labels):
            raise ArgumentError(
                f"{len(groups)} groups and {len(labels)} labels; give one of each for an image"
            )
        if resamples < 100:
            raise ArgumentError(f"resamples is {resamples}; a 95 % interval needs 100 or more, better 1,000")
        held: dict[str, set[str]] = {}
        for group, label in zip(groups, labels, strict=True):
            held.setdefault(group, set()).add(label)
        strata: dict[tuple[str, ...], list[int]] = {}
        for index, own in enumerate(held.values()):
            strata.setdefault(tuple(sorted(own)), []).append(index)
        drawn = np.ones((resamples, len(held)))
        for members in strata.values():
            m = len(members)
            if m > 1:
                drawn[:, members] = rng.multinomial(m - 1, np.full(m, 1 / m), size=resamples) * (m / (m - 1))
        place = {group: index for index, group in enumerate(held)}
        return cls(
            weights=drawn[:, [place[group] for group in groups]],
            freedom=len(held) - len(strata),
            groups=len(held),
            class_groups={label: sum(label in own for own in held.values()) for label in sorted(set(labels))},
        )


def draw_seeds(seeds: int, *, resamples: int, rng: np.random.Generator) -> Array:
    """Shares of the training seeds in each replicate, shape (resamples, seeds): rows sum to one."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds


def interval_estimate(
    value: float,
    replicates: ArrayLike,
    *,
    n: int,
    freedom: int,
    method: str,
    level: float = 0.95,
    reliable: bool = True,
    centered: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """An Estimate with an interval from its replicates.

    A score from 0 to 1 gets Wilson's interval for as many trials as give a share of this value the variance
    of the replicates (its effective sample size), with Student's t quantile of `freedom` degrees: percentiles
    of a share cover too seldom on few groups (92 % with 16). A score with other bounds, or one that is
    centered, gets percentiles, its tails taken where a normal quantile equals Student's t (the "expanded
    percentile" interval, Hesterberg 2015). The ends are pulled to the value where it lies outside. Replicates
    that are all equal (every image right, say) have no spread to make an interval of: no interval then, and
    ``unreliable``. Coverage is measured by scripts/bench/classifier_arms.py.

    Args:
        value: the score; replicates: shape (b,).
        n: number of test images.
        reliable: False marks the Estimate ``unreliable``.
        centered: shift the replicates so that their mean is the value (a score that resampling biases, as it
            does the calibration error); the interval then tells of spread alone.
        bounds: range of the score.
    """
    check_level(level)
    drawn = np.asarray(replicates, dtype=np.float64)
    if freedom < 1 or float(np.ptp(drawn)) < 1e-12:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.stats import norm, t

    status: Status = "ok" if reliable else "unreliable"
    if not centered and bounds == (0.0, 1.0) and 0 < value < 1:
        size = value * (1 - value) / float(np.var(drawn, ddof=1))
        low, high = wilson(value, size, float(t.ppf((1 + level) / 2, freedom)))
        return Estimate(value, low, high, n, method, status)
    if centered:
        drawn = drawn - drawn.mean() + value
    tail = float(norm.sf(t.ppf((1 + level) / 2, freedom)))
    # outward: the replicates of a share take few values, and interpolating between them cuts coverage
    ends = np.quantile(drawn, tail, method="lower"), np.quantile(drawn, 1 - tail, method="higher")
    low, high = np.clip(ends, *bounds)
    return Estimate(value, min(float(low), value), max(float(high), value), n, method, status)


def boundary_estimate(value: float, *, groups: int, n: int, method: str, level: float) -> Estimate:
    """A share of 0 or 1, which no resampling moves: Wilson's interval with the groups as trials."""
    share = Estimate.of_proportion(round(value * groups), groups, level=level)
    status: Status = "ok" if groups >= FEWEST_GROUPS else "unreliable"
    return Estimate(
        value, share.low, share.high, n, f"{method}; all alike: Wilson interval over groups", status
    )


def share_estimate(
    value: float,
    replicates: Array,
    *,
    groups: int,
    n: int,
    freedom: int,
    method: str,
    level: float,
) -> Estimate:
    """A share with Wilson's interval for as many trials as its replicates' variance tells of.

    Independent trials of that number would vary as much (Korn and Graubard 1998); Student's t stands for the
    normal quantile. Percentiles of the replicates of a share near 0 or 1 cover 61 to 83 % with 10 to 32
    groups. Of a share that is 0 or 1 no resampling tells: there the groups are the trials.
    """
    varies = float(np.ptp(replicates)) >= 1e-12
    if value in (0.0, 1.0) and not varies:
        return boundary_estimate(value, groups=groups, n=n, method=method, level=level)
    reliable = groups >= FEWEST_GROUPS
    if not varies or not 0 < value < 1 or freedom < 1:
        return interval_estimate(
            value, replicates, n=n, freedom=freedom, method=method, level=level, reliable=reliable
        )
    check_level(level)
    from scipy.special import stdtrit

    trials = value * (1 - value) / float(np.var(replicates))
    ratio = float(stdtrit(freedom, (1 + level) / 2)) ** 2 / trials
    center = (value + ratio / 2) / (1 + ratio)
    half = float(np.sqrt(ratio * value * (1 - value) + ratio**2 / 4)) / (1 + ratio)
    status: Status = "ok" if reliable else "unreliable"
    return Estimate(value, max(center - half, 0.0), min(center + half, 1.0), n, method, status)


def p_value(differences: ArrayLike, freedom: int) -> float | None:
    """Two-sided p-value of "no difference", the counterpart of `interval_estimate`.

    Twice the smaller tail of the replicates beyond 0 (each counted with one more, so never 0), widened by
    Student's t as the interval is. None without a degree of freedom; 1 when every replicate is 0.
    """
    drawn = np.asarray(differences, dtype=np.float64)
    if freedom < 1:
        return None
    from scipy.stats import norm, t

    beyond = min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))
    tail = min((beyond + 1) / (len(drawn) + 1), 0.5)
    return float(2 * t.cdf(norm.ppf(tail), freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): controls the chance of any false verdict over the whole family.

    Args:
        p_values: in any order; the result keeps it. The adjusted ones are at most 1 and keep the ranking.

    Raises:
        ValueError: a value outside 0 to 1.
    """
    for index, p in enumerate(p_values):
        if not 0 <= p <= 1:
            raise ArgumentError(f"p_values[{index}] is {p}; expected a probability, 0 to 1")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
