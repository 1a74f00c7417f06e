"""How different the images of one set are from each other."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evaluation.estimate import Estimate, check_level
from evaluation.metrics._checks import normalised

RELIABLE_FROM = 16


def diversity(
    features: ArrayLike, *, distance: Literal["cosine", "euclidean"] = "cosine", level: float = 0.95
) -> Estimate:
    """Mean distance between two different images, features scaled to length 1.

    A U-statistic of degree 2; the t interval uses its jackknife variance, (n - 1) / n times the sum of
    squared deviations of the n values that leave one image out.

    Args:
        features: shape (n, d).
        distance: ``cosine`` (1 - cosine, 0 to 2) or ``euclidean`` (between unit vectors, 0 to 2).
        level: coverage of the interval.

    Returns:
        value in [0, 2], higher is more diverse. ``undefined`` below two images, no interval below three,
        ``unreliable`` below 16.

    Raises:
        ValueError: wrong shape, a feature that is not finite, a row of zeros, or an unknown distance.
    """
    if distance not in ("cosine", "euclidean"):
        raise ValueError(f"distance is {distance!r}; expected 'cosine' or 'euclidean'")
    check_level(level)
    unit = normalised(features, "features")
    n = len(unit)
    method = f"mean pairwise {distance} distance"
    if n < 2:
        return Estimate.undefined(n, method)
    # rounding can carry the distance of equal images a hair below zero
    gaps = np.clip(1.0 - unit @ unit.T, 0.0, 2.0)
    gaps = gaps if distance == "cosine" else np.sqrt(2.0 * gaps)
    np.fill_diagonal(gaps, 0.0)
    rows = gaps.sum(axis=1)
    total = float(rows.sum())
    value = total / (n * (n - 1))
    if n < 3:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import stdtrit

    left_out = (total - 2 * rows) / ((n - 1) * (n - 2))
    variance = (n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(np.sqrt(variance))
    return Estimate(
        value, value - half, value + half, n, method, "ok" if n >= RELIABLE_FROM else "unreliable"
    )
