"""How far raters agree, with each other and with a score; every number with an interval."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evaluation.estimate import Estimate
from promptopt.base.errors import ArgumentError

_RELIABLE = 10  # items below which a coefficient is shown, not believed


def cohen_kappa(first: Sequence[object], second: Sequence[object]) -> Estimate:
    """Cohen's kappa (1960) of two raters' answers to the same items, with a jackknife interval.

    ``undefined`` for fewer than 2 items, or where both give everything one answer: chance explains it all.

    Raises ValueError for answers of different number.
    """
    if len(first) != len(second):
        raise ArgumentError(f"{len(first)} and {len(second)} answers; give both for the same items")
    a, b = (np.array([str(answer) for answer in answers]) for answers in (first, second))
    return _jackknife(
        lambda rows: _kappa(a[rows], b[rows]), len(a), "Cohen's kappa, jackknife interval over the items"
    )


def preference_kappa(first: Sequence[int], second: Sequence[int]) -> Estimate:
    """Cohen's kappa of two raters' verdicts on pairs: 1 for the one, -1 for the other, 0 for no difference.

    Which of a pair is the one is arbitrary, so every pair counts in both directions.

    Raises ValueError for verdicts of different number.
    """
    if len(first) != len(second):
        raise ArgumentError(f"{len(first)} and {len(second)} verdicts; give both for the same pairs")
    a, b = np.array(first, dtype=int), np.array(second, dtype=int)
    return _jackknife(
        lambda rows: _kappa(np.concatenate([a[rows], -a[rows]]), np.concatenate([b[rows], -b[rows]])),
        len(a),
        "Cohen's kappa over pairs in both directions, jackknife interval over the pairs",
    )


def fleiss_kappa(answers: Sequence[Sequence[object]]) -> Estimate:
    """Fleiss' kappa (1971) of several raters, with a jackknife interval over the items.

    Args:
        answers: of each item, one from every rater.

    Raises ValueError for items with different numbers of answers, or fewer than 2.
    """
    raters = {len(item) for item in answers}
    if len(raters) > 1 or (raters and min(raters) < 2):
        raise ArgumentError(
            f"items have {sorted(raters)} answers; each needs one from the same 2 or more raters"
        )
    kinds = sorted({str(answer) for item in answers for answer in item})
    table = np.array([[sum(str(a) == kind for a in item) for kind in kinds] for item in answers], dtype=float)

    def kappa(rows: np.ndarray) -> float:
        counts = table[rows]
        n = counts.sum(axis=1)[0]
        observed = float(((counts**2).sum(axis=1) - n).mean() / (n * (n - 1)))
        expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
        return (observed - expected) / (1 - expected) if expected < 1 else math.nan

    return _jackknife(kappa, len(table), "Fleiss' kappa, jackknife interval over the items")


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Spearman's rho, with Bonett and Wright's interval (2000); ``unreliable`` below 10 pairs.

    ``undefined`` for fewer than 4 pairs, or where one side is all equal; without interval for equal orders.
    """
    method = "Spearman's rho, Bonett-Wright interval"
    n = len(first)
    if n < 4 or len(set(first)) < 2 or len(set(second)) < 2:
        return Estimate.undefined(n, method)
    from scipy.stats import spearmanr

    rho = float(spearmanr(first, second).statistic)
    if abs(rho) > 1 - 1e-9:  # the interval would have no width, as if two equal orders proved it
        return Estimate(math.copysign(1.0, rho), None, None, n, method, "unreliable")
    half = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(rho) + side * half) for side in (-1, 1))
    return Estimate(rho, low, high, n, method, "ok" if n >= _RELIABLE else "unreliable")


def _kappa(a: np.ndarray, b: np.ndarray) -> float:
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([a, b]))) < 2:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(a, b))


def _jackknife(statistic: Callable[[Any], float], n: int, method: str) -> Estimate:
    """The statistic of items 0 to n - 1, with Student's interval from the values without one of them."""
    if n < 2:
        return Estimate.undefined(n, method)
    every = np.arange(n)
    value = statistic(every)
    if not math.isfinite(value):
        return Estimate.undefined(n, method)
    left_out = np.array([statistic(np.delete(every, index)) for index in range(n)])
    if not np.isfinite(left_out).all():
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975) * np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Estimate(
        value, min(low, value), max(high, value), n, method, "ok" if n >= _RELIABLE else "unreliable"
    )
