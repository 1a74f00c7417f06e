"""Area under the ROC curve: the chance that a score ranks a positive above a negative."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import Estimate, check_level, check_vector

RELIABLE_FROM = 20
"""Fewest positives, and fewest negatives, for which a 95 % interval was seen to cover 93 % or more."""


def auroc(scores: ArrayLike, positive: ArrayLike, *, level: float = 0.95) -> Estimate:
    """AUROC (ties count half) with DeLong's variance (1988), the interval normal on the logit scale.

    The images must be independent: near-duplicates make the interval too narrow.

    Args:
        scores: shape (n,), higher means more positive.
        positive: shape (n,), true for positives.
        level: coverage of the interval.

    Returns:
        value in [0, 1]; n is the size of the smaller class. ``undefined`` without a positive or a negative;
        ``unreliable`` below 20 of either, and, without interval, where the classes are perfectly separated
        (DeLong's variance is then 0) or a class has one image.

    Raises:
        ValueError: different lengths, a score that is not finite.
    """
    check_level(level)
    values = check_vector(scores, "scores")
    truth = np.asarray(positive, dtype=bool)
    if truth.shape != values.shape:
        raise ValueError(f"positive has the shape {truth.shape} and scores {values.shape}; give one for each")
    above, below = values[truth], values[~truth]
    n = min(len(above), len(below))
    method = "AUROC, DeLong interval on the logit scale"
    if n == 0:
        return Estimate.undefined(0, method)
    of_positives, of_negatives = _placements(above, below)
    value = float(of_positives.mean())
    if n < 2 or not 0 < value < 1:
        return Estimate(min(max(value, 0.0), 1.0), None, None, n, method, "unreliable")
    variance = float(np.var(of_positives, ddof=1)) / len(above) + float(np.var(of_negatives, ddof=1)) / len(
        below
    )
    if variance == 0:  # all scores equal: 0.5, and no spread to take an interval from
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import expit, logit, ndtri

    half = float(ndtri((1 + level) / 2)) * np.sqrt(variance) / (value * (1 - value))
    low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    status = "ok" if n >= RELIABLE_FROM else "unreliable"
    return Estimate(value, min(low, value), max(high, value), n, method, status)  # type: ignore[arg-type]


def _placements(
    above: NDArray[np.float64], below: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each positive the share of negatives under it, for each negative the share of positives above."""
    from scipy.stats import rankdata  # Sun and Xu (2014): placements are differences of midranks

    ranks = rankdata(np.concatenate([above, below]))
    of_positives = (ranks[: len(above)] - rankdata(above)) / len(below)
    of_negatives = 1 - (ranks[len(above) :] - rankdata(below)) / len(above)
    return of_positives, of_negatives
