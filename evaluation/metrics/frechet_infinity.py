"""Fréchet distance between the populations, by extrapolation (Chong and Forsyth 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evaluation.estimate import Estimate, Status, check_level
from evaluation.metrics._score_interval import score_interval
from evaluation.metrics.frechet import Features, Side, distance, distance_and_spread, sides
from promptopt.base.errors import ArgumentError

GROUPS = (2, 3, 5)
"""The set is cut into so many parts, and each part is left out in turn: 1/2, 2/3 and 4/5 of the images."""

INTERVAL_FROM = 64
IMAGES_PER_FEATURE = 4
"""Sampled sets have an interval from this many images, and this many a feature, on."""


def frechet_infinity(
    a: Features, b: Features, *, seed: int, rounds: int = 4, level: float = 0.95
) -> Estimate:
    """The Fréchet distance that infinitely many images would have.

    The bias of `frechet_distance` falls as 1 / n once n is well above the number of features. Both sampled
    sets are cut into 2, 3 and 5 random parts, one part is left out in turn, and a straight line in 1 / n
    through the mean distances of each size and the whole sets' is followed to 1 / n = 0. (The paper draws
    one random subset a size; parts that complete each other cancel the first-order noise of that draw.) The
    interval takes the variance of the whole sets' distance at the tested distance (see `frechet_distance`),
    the part of pairs of images twice: the draw of the parts and the line through their distances add as much.

    With fewer than four images a feature, the smallest subsets leave the regime in which the bias is linear:
    then the value is a guess, ``unreliable`` and without interval. No extrapolation from 64 images can tell
    a 2,048-dimensional distance.

    Args:
        a: features, shape (n, d), or their `FeatureStatistics`, which stand for a population: they are
            neither subsampled nor given a variance.
        b: features, shape (m, d), or their `FeatureStatistics`.
        seed: of the random parts.
        rounds: how often the sets are cut anew; 10 distances each.
        level: coverage of the interval.

    Returns:
        lower is better; nearly unbiased and so at times negative for equal populations. n is the size of the
        smaller set. ``undefined`` below four images in a sampled set or when neither is sampled (statistics
        cannot be cut), or below two in the other; ``unreliable``, without interval, below 64 images or below
        4 d in a sampled set.

    Raises:
        ValueError: as `frechet_distance`, or fewer than one round.
    """
    check_level(level)
    if rounds < 1:
        raise ArgumentError(f"rounds is {rounds}; expected 1 or more")
    first, second = sides(a, b)
    n = min(first.count, second.count)
    method = f"Fréchet distance at infinitely many images, linear in 1/n, {rounds} rounds, seed {seed}"
    sampled = [side.count for side in (first, second) if side.sampled]
    if n < 2 or not sampled or min(sampled) < 4:
        return Estimate.undefined(n, method)
    rng = np.random.default_rng(seed)
    inverse, values = [1.0], [distance(first, second)]
    for groups in GROUPS:
        found = [
            distance(x, y)
            for _ in range(rounds)
            for x, y in zip(_leave_out(first, groups, rng), _leave_out(second, groups, rng), strict=True)
        ]
        inverse.append(groups / (groups - 1))
        values.append(float(np.mean(found)))
    value = float(np.polynomial.polynomial.polyfit(inverse, values, 1)[0])
    enough = min(sampled) >= max(INTERVAL_FROM, IMAGES_PER_FEATURE * len(first.mean))
    status: Status = "ok" if enough else "unreliable"
    if not enough:
        return Estimate(value, None, None, n, method, status)
    from scipy.special import stdtrit

    whole, spread = distance_and_spread(first, second)
    if whole == 0.0:  # copies: no spread to take an interval from
        return Estimate(value, None, None, n, method, "unreliable")
    t = float(stdtrit(min(sampled) - 1, (1 + level) / 2))
    low, high = score_interval(value, fixed=2 * spread.pairs, slope=spread.slope(whole), t=t)
    fixed = "" if len(sampled) == 2 else ", one set held fixed"
    return Estimate(value, low, high, n, f"{method}; score interval{fixed}", status)


def _leave_out(side: Side, groups: int, rng: np.random.Generator) -> Iterator[Side]:
    """The set without each of its random parts in turn; statistics stay whole."""
    if not side.sampled:
        yield from [side] * groups
        return
    parts: list[NDArray[np.int64]] = np.array_split(rng.permutation(side.count), groups)
    for part in parts:
        kept = np.ones(side.count, dtype=bool)
        kept[part] = False
        rest = Side.of_samples(side.rows[kept] * np.sqrt(side.count - 1))
        yield Side(rest.count, rest.mean + side.mean, rest.rows, True)
