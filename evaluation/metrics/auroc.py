"""Area under the ROC curve: the chance that a score ranks a positive above a negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import Estimate, check_level, check_vector
from promptopt.base.errors import ArgumentError

RELIABLE_FROM = 20
"""Fewest positives, and fewest negatives (images, or groups that hold one), for which a 95 % interval was
seen to cover 93 % or more."""

_WEIGHTS = 4_000_000  # weights of replicates in memory at a time


def auroc(
    scores: ArrayLike,
    positive: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """AUROC (ties count half), the interval normal or Student's t on the logit scale.

    Without `groups` the images must be independent, and the variance is DeLong's (1988). Near-duplicates
    would make it too small: with `groups`, whole groups are drawn again and again (`GroupBootstrap`: those
    with positives, with negatives and with both apart), and the variance is that of the replicates.

    Args:
        scores: shape (n,), higher means more positive.
        positive: shape (n,), true for positives.
        groups: n names; near-duplicates (frames of one scene) share one.
        level: coverage of the interval.
        resamples, seed: of the groups.

    Returns:
        value in [0, 1]; n is the size of the smaller class. ``undefined`` without a positive or a negative;
        ``unreliable`` below 20 of either (images, or groups), and, without interval, where the classes are
        perfectly separated (both variances are then 0) or a class has one image or group.

    Raises:
        ValueError: different lengths, a score that is not finite, or fewer than 100 resamples.
    """
    check_level(level)
    values = check_vector(scores, "scores")
    truth = np.asarray(positive, dtype=bool)
    if truth.shape != values.shape:
        raise ArgumentError(
            f"positive has the shape {truth.shape} and scores {values.shape}; give one for each"
        )
    if groups is not None and len(groups) != len(values):
        raise ArgumentError(f"groups has {len(groups)} names for {len(values)} scores; give one for each")
    above, below = values[truth], values[~truth]
    n = min(len(above), len(below))
    method = "AUROC, DeLong interval on the logit scale"
    if groups is not None:
        method = (
            f"AUROC, {len(set(groups))} groups resampled {resamples} times, t interval on the logit scale"
        )
    if n == 0:
        return Estimate.undefined(0, method)
    of_positives, of_negatives = _placements(above, below)
    value = min(max(float(of_positives.mean()), 0.0), 1.0)
    if n < 2 or not 0 < value < 1:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import ndtri, stdtrit

    if groups is None:
        fewest = n
        variance = float(np.var(of_positives, ddof=1)) / len(above)
        variance += float(np.var(of_negatives, ddof=1)) / len(below)
        quantile = float(ndtri((1 + level) / 2))
    else:
        fewest = min(len({g for g, yes in zip(groups, truth, strict=True) if yes == side}) for side in (1, 0))
        variance, freedom = _grouped(values, truth, groups, resamples=resamples, seed=seed)
        quantile = float(stdtrit(max(freedom, 1), (1 + level) / 2))
    # no spread: all scores equal (0.5), or a class in one group, and nothing to take an interval from
    if variance <= 1e-24 or fewest < 2:
        return Estimate(value, None, None, n, method, "unreliable")
    low, high = logit_interval(value, quantile * variance**0.5)
    return Estimate(value, low, high, n, method, "ok" if fewest >= RELIABLE_FROM else "unreliable")


def logit_interval(value: float, half: float) -> tuple[float, float]:
    """``value -+ half`` in (0, 1), carried over to the logit scale and back (delta method)."""
    from scipy.special import expit, logit

    wide = half / (value * (1 - value))
    low, high = float(expit(logit(value) - wide)), float(expit(logit(value) + wide))
    return min(low, value), max(high, value)


def weighted_auroc(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUROC under each row of `weights`, shape (b, n): the weighted chance that a positive scores above a
    negative, ties half (Mann and Whitney)."""
    order = np.argsort(scores[~positive], kind="stable")
    negatives = scores[~positive][order]
    below = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, ~positive][:, order], axis=1, out=below[:, 1:])
    weight = weights[:, positive]
    lower, upper = (np.searchsorted(negatives, scores[positive], side=side) for side in ("left", "right"))
    wins = 0.5 * (below[:, lower] + below[:, upper])
    return np.asarray(np.einsum("bi,bi->b", weight, wins) / (weight.sum(axis=1) * below[:, -1]))


def _grouped(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    groups: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> tuple[float, int]:
    """Variance over resampled groups, and its degrees of freedom."""
    from evaluation.inference.bootstrap import GroupBootstrap

    labels = ["positive" if yes else "negative" for yes in positive]
    rng = np.random.default_rng(seed)
    block = min(resamples, max(100, _WEIGHTS // len(scores)))  # 100: the fewest that are drawn
    replicates: list[NDArray[np.float64]] = []
    for _ in range(-(-resamples // block)):
        draws = GroupBootstrap.draw(groups, labels, resamples=block, rng=rng)
        replicates.append(weighted_auroc(scores, positive, draws.weights))
    variance = float(np.var(np.concatenate(replicates)[:resamples], ddof=1))
    return variance, draws.freedom


def _placements(
    above: NDArray[np.float64], below: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each positive the share of negatives under it, for each negative the share of positives above."""
    from scipy.stats import rankdata  # Sun and Xu (2014): placements are differences of midranks

    ranks = rankdata(np.concatenate([above, below]))
    of_positives = (ranks[: len(above)] - rankdata(above)) / len(below)
    of_negatives = 1 - (ranks[len(above) :] - rankdata(below)) / len(above)
    return of_positives, of_negatives
