"""How different the images of one set are from each other."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import normalized
from evaluation.estimate import Estimate, Status, check_level
from evaluation.metrics._score_interval import score_interval
from evaluation.metrics._two_sample import INTERVAL_FROM, Within, witness_variance
from promptopt.base.errors import ArgumentError

RELIABLE_FROM = 16


def diversity(
    features: ArrayLike, *, distance: Literal["cosine", "euclidean"] = "cosine", level: float = 0.95
) -> Estimate:
    """Mean distance between two different images, features scaled to length 1.

    A U-statistic of degree 2. The mean cosine is the squared length of the mean direction, so that ``cosine``
    has the score interval of `evaluation.metrics.mmd`, for one set: it holds also where the images have
    nothing in common. The interval for ``euclidean`` is Student's t with the jackknife variance, (n - 1) / n
    times the sum of squared deviations of the n values that leave one image out.

    Args:
        features: shape (n, d).
        distance: ``cosine`` (1 - cosine, 0 to 2) or ``euclidean`` (between unit vectors, 0 to 2).
        level: coverage of the interval.

    Returns:
        value in [0, 2], higher is more diverse. ``undefined`` below two images, no interval below four, or
        where all are alike, ``unreliable`` below 16.

    Raises:
        ValueError: wrong shape, a feature that is not finite, a row of zeros, or an unknown distance.
    """
    if distance not in ("cosine", "euclidean"):
        raise ArgumentError(f"distance is {distance!r}; expected 'cosine' or 'euclidean'")
    check_level(level)
    unit = normalized(features, "features")
    n = len(unit)
    method = f"mean pairwise {distance} distance"
    if n < 2:
        return Estimate.undefined(n, method)
    cosines = np.clip(unit @ unit.T, -1.0, 1.0)
    if distance == "cosine":
        return _cosine(Within.of(cosines), level=level, method=method)
    # rounding can carry the distance of equal images a hair below zero
    gaps = np.sqrt(2.0 * np.clip(1.0 - cosines, 0.0, 2.0))
    np.fill_diagonal(gaps, 0.0)
    rows = gaps.sum(axis=1)
    total = float(rows.sum())
    value = total / (n * (n - 1))
    if n < INTERVAL_FROM:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import stdtrit

    left_out = (total - 2 * rows) / ((n - 1) * (n - 2))
    variance = (n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(np.sqrt(variance))
    return Estimate(
        value, value - half, value + half, n, method, "ok" if n >= RELIABLE_FROM else "unreliable"
    )


def _cosine(cosines: Within, *, level: float, method: str) -> Estimate:
    n = len(cosines.means)
    common = float(cosines.means.mean())
    value = min(max(1.0 - common, 0.0), 2.0)
    variance = witness_variance(cosines) * 4 / n
    # copies of one image differ by rounding alone
    if n < INTERVAL_FROM or variance <= 1e-24:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import stdtrit

    low, high = score_interval(
        common,
        fixed=2 * cosines.interaction / (n * (n - 1)),
        slope=variance / float(cosines.with_selves.mean()),
        t=float(stdtrit(n - 1, (1 + level) / 2)),
    )
    status: Status = "ok" if n >= RELIABLE_FROM else "unreliable"
    return Estimate(value, min(1.0 - high, value), max(1.0 - low, value), n, method, status)
