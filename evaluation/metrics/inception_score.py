"""Inception score (Salimans et al. 2016), on any classifier's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features
from evaluation.estimate import Estimate
from promptopt.base.errors import ArgumentError


def inception_score(
    probabilities: ArrayLike, *, splits: int = 10, seed: int, level: float = 0.95
) -> Estimate:
    """exp of the mean Kullback-Leibler divergence of an image's classes from the split's classes.

    The images are shuffled with `seed` and cut into `splits` parts; the value is the mean over the parts, the
    interval Student's t over them. A probability of 0 contributes 0, its limit; nothing is added to it.

    The score of a part of N images is too low by a factor of about exp((C - 1) / (2 N)) with C classes. From
    10 C images a part on, that is 5 % or less; below it, the result is ``unreliable``. Compare only scores of
    the same classifier, number of images and number of splits.

    Args:
        probabilities: shape (n, classes), rows that sum to 1 (within 0.001; they are scaled to sum to it).
        splits: number of parts.
        seed: of the shuffle; with one split neither it nor the order of the rows matters.
        level: coverage of the interval.

    Returns:
        value from 1 to the number of classes, higher is better. ``undefined`` for fewer images than splits;
        ``unreliable``, without interval, for a single split.

    Raises:
        ValueError: not probabilities, or fewer than one split.
    """
    p = check_features(probabilities, "probabilities")
    if splits < 1:
        raise ArgumentError(f"splits is {splits}; expected 1 or more")
    check_probabilities(p)
    n, classes = p.shape
    method = f"Inception score, {splits} splits, seed {seed}"
    if n < splits or n == 0:
        return Estimate.undefined(n, method)
    p = p / p.sum(axis=1, keepdims=True)
    order: NDArray[Any] = np.random.default_rng(seed).permutation(n) if splits > 1 else np.arange(n)
    scores = [_score(p[part]) for part in np.array_split(order, splits)]
    mean = Estimate.of_mean(scores, level=level)
    reliable = mean.status == "ok" and n // splits >= 10 * classes
    return Estimate(mean.value, mean.low, mean.high, n, method, "ok" if reliable else "unreliable")


def _score(p: NDArray[np.float64]) -> float:
    from scipy.special import rel_entr

    return float(np.exp(rel_entr(p, p.mean(axis=0, keepdims=True)).sum(axis=1).mean()))


def check_probabilities(p: NDArray[np.float64]) -> None:
    """Refuse rows that are no probabilities (ValueError, naming the first)."""
    wrong = np.flatnonzero((p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-3))
    if len(wrong):
        raise ArgumentError(
            f"probabilities: row {wrong[0]} sums to {p[wrong[0]].sum():.6g}, "
            f"its least entry is {p[wrong[0]].min():.6g}; "
            "expected entries from 0 on that sum to 1 (a softmax, not logits)"
        )
