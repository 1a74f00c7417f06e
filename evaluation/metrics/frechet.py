"""Fréchet distance between two sets of features (Heusel et al. 2017; Dowson and Landau 1982)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features
from evaluation.estimate import Estimate, Status, check_level
from evaluation.features.moments import FeatureStatistics
from evaluation.metrics._frechet_spread import Coordinates, Spread, chosen, second_order
from evaluation.metrics._score_interval import score_interval
from promptopt.base.errors import ArgumentError

Matrix = NDArray[np.float64]
Features = ArrayLike | FeatureStatistics

RELIABLE_FROM = 2048
"""Below this many images in the smaller set the value is dominated by its bias, and rewards mode collapse."""

INTERVAL_FROM = 16
"""Fewest images in a sampled set for which the interval was seen to cover (scripts/bench/coverage.py)."""


def frechet_distance(a: Features, b: Features, *, level: float | None = 0.95) -> Estimate:
    """``|mean_a - mean_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))``, with covariances over n - 1.

    With X = (a - mean) / sqrt(n - 1) and Y likewise, the last trace is the sum of the singular values of X
    Y^T: exact for any rank, no matrix square root, no regularization. When a set has more rows than features
    a triangular factor, which has the same covariance, can stand for it; the cheaper of the two ways is
    taken.

    The value depends on the number of images: it is too high, by more the fewer they are. The interval is for
    the value that sets of *these sizes* have on average, not for the distance between the populations, which
    `frechet_infinity` estimates. So compare only distances of equal n. Its variance comes from the first and
    second derivatives by the images' weights (infinitesimal jackknife, Jaeckel 1972). The first, for image i
    of n, is::

        2 (mean_a - mean_b) . x_i + |x_i|^2 - n ((X S_b X^T)^(1/2))_ii          (x_i centered)

    and vanishes between equals, where the second are left. The interval holds the mean distances at which the
    measured one would not stand out, their variance growing in proportion to what exceeds the bias. It covers
    from 16 images on: 94 to 98 % for a nominal 95 %, and up to 99 % with several times more features than
    images in one set alone.

    Args:
        a: features, shape (n, d), or their `FeatureStatistics`.
        b: features, shape (m, d), or their `FeatureStatistics`.
        level: coverage of the interval; None for no interval, which is quicker for thousands of features.

    Returns:
        value >= 0 (0 for equal moments); n is the size of the smaller set. ``undefined`` below two images in
        either set, ``unreliable`` below 2,048. No interval below 16 images in a set. Statistics do not show
        how single images weigh: a set given so is held fixed in the interval, and two of them have none.

    Raises:
        ValueError: wrong shapes, different widths, or a feature that is not finite.
        evaluation.features.moments.StatisticsError: statistics of different encoders or preprocessings.
    """
    if level is not None:
        check_level(level)
    first, second = sides(a, b)
    n = min(first.count, second.count)
    method = "Fréchet distance, exact"
    if n < 2:
        return Estimate.undefined(n, method)
    status: Status = "ok" if n >= RELIABLE_FROM else "unreliable"
    sampled = [side.count for side in (first, second) if side.sampled]
    if level is None or not sampled or min(sampled) < INTERVAL_FROM:
        return Estimate(distance(first, second), None, None, n, method, status)
    value, spread = distance_and_spread(first, second)
    from scipy.special import stdtrit

    fixed = "" if len(sampled) == 2 else ", one set held fixed"
    method = f"{method}; score interval for the mean value at these sizes{fixed}"
    if value == 0.0:  # no spread either
        return Estimate(0.0, None, None, n, method, status)
    t = float(stdtrit(min(sampled) - 1, (1 + level) / 2))
    low, high = score_interval(value - spread.bias, fixed=spread.pairs, slope=spread.slope(value), t=t)
    # the distance between two samples is never negative
    low, high = min(max(low + spread.bias, 0.0), value), max(high + spread.bias, value)
    return Estimate(value, low, high, n, method, status)


@dataclass(frozen=True, eq=False)
class Side:
    """One set: count, mean (d,), and rows (k, d) with ``rows.T @ rows`` its covariance."""

    count: int
    mean: Matrix
    rows: Matrix
    sampled: bool  # row i is image i, centered and divided by sqrt(count - 1)

    @classmethod
    def of_samples(cls, features: Matrix) -> Side:
        mean = features.mean(axis=0) if len(features) else np.zeros(features.shape[1])
        rows = features - mean
        rows /= np.sqrt(max(len(features) - 1, 1))
        return cls(len(features), mean, rows, True)

    @classmethod
    def of_statistics(cls, statistics: FeatureStatistics) -> Side:
        return cls(statistics.count, statistics.mean, statistics.covariance_factor, False)

    @property
    def spread(self) -> float:
        """Trace of the covariance."""
        flat = self.rows.ravel()
        return float(flat @ flat)

    @cached_property
    def triangular(self) -> Matrix:
        """R of rows = Q R, with the same covariance, when it is the smaller of the two."""
        if len(self.rows) <= self.rows.shape[1]:
            return self.rows
        return np.asarray(np.linalg.qr(self.rows, mode="r"), dtype=np.float64)


def sides(a: Features, b: Features) -> tuple[Side, Side]:
    """Both sets, checked: finite, of one width and, where both are statistics, of one manifest."""
    if isinstance(a, FeatureStatistics) and isinstance(b, FeatureStatistics):
        a.manifest.check_comparable(b.manifest)
    first, second = _side(a, "a"), _side(b, "b")
    if len(first.mean) != len(second.mean):
        raise ArgumentError(
            f"a has {len(first.mean)} features an image and b {len(second.mean)}; "
            "both must come from the same encoder"
        )
    return first, second


def distance(a: Side, b: Side) -> float:
    """The squared Fréchet distance of two sets of two images or more."""
    from scipy.linalg import svdvals

    x, y = _factors(a, b)
    return _assemble(a, b, float(svdvals(x @ y.T).sum()))


def distance_and_spread(a: Side, b: Side) -> tuple[float, Spread]:
    """The distance and how it varies over new draws of the sampled sets."""
    from scipy.linalg import svd

    x, y = _factors(a, b)
    left, singular, right = svd(x @ y.T, full_matrices=False)
    kept = singular > 1e-12 * max(singular[0], np.finfo(float).tiny)
    roots = singular[kept]
    gap = a.mean - b.mean
    variance = 0.0
    coordinates: list[Coordinates | None] = []
    for side, mine, other, vectors, partners, sign in (
        (a, x, y, left, right.T, 1.0),
        (b, y, x, right.T, left, -1.0),
    ):
        if not side.sampled:
            coordinates.append(None)
            continue
        own = vectors[:, kept]
        if mine is not side.rows:  # the vectors belong to the triangular factor: carry them to the images
            own = side.rows @ (other.T @ (partners[:, kept] / roots))
        scale = side.count - 1
        influence = (
            sign * 2 * np.sqrt(scale) * (side.rows @ gap)
            + scale * np.einsum("ij,ij->i", side.rows, side.rows)
            - scale * ((own**2) @ roots)
        )
        variance += float(influence.var(ddof=1)) / side.count
        some = chosen(side.count)
        coordinates.append(
            Coordinates(
                side.count, np.sqrt(scale) * side.rows[some], np.sqrt(scale) * own[some] * np.sqrt(roots)
            )
        )
    pairs, bias = second_order(coordinates[0], coordinates[1], roots) if len(roots) else (0.0, 0.0)
    return _assemble(a, b, float(singular.sum())), Spread(variance, pairs, bias)


def _side(features: Features, name: str) -> Side:
    if isinstance(features, FeatureStatistics):
        return Side.of_statistics(features)
    return Side.of_samples(check_features(features, name))


def _assemble(a: Side, b: Side, root: float) -> float:
    # the exact value cannot be negative; what rounding leaves below zero is zero
    return max(float(np.sum((a.mean - b.mean) ** 2)) + a.spread + b.spread - 2 * root, 0.0)


def _factors(a: Side, b: Side) -> tuple[Matrix, Matrix]:
    """Rows that stand for the two covariances, the cheaper way."""
    n, m, d = len(a.rows), len(b.rows), a.rows.shape[1]
    if _cost(n, m, d) > _reduced_cost(n, m, d):
        return a.triangular, b.triangular
    return a.rows, b.rows


def _cost(n: int, m: int, d: int) -> int:
    """Multiplications, roughly: the product, then the singular values."""
    return n * m * d + 4 * max(n, m) * min(n, m) ** 2


def _reduced_cost(n: int, m: int, d: int) -> int:
    factors = sum(2 * rows * d * d for rows in (n, m) if rows > d)
    return factors + _cost(min(n, d), min(m, d), d)
