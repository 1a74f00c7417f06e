"""Is the judge being gamed? The same images under a second encoder family that the search never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import Estimate, check_level, check_vector


@dataclass(frozen=True)
class JudgeGap:
    """What a prompt gained over the baseline under two judges, in units of the baseline's per-image SD.

    Attributes:
        search: improvement under the judge that the search used.
        held_out: improvement under the other one.
        gap: the first minus the second. An interval above 0 says that the search judge sees more improvement
            than the other confirms, which is what reward hacking looks like.
    """

    search: Estimate
    held_out: Estimate
    gap: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Ready to stand inside a larger JSON document."""
        return {name: getattr(self, name).to_dict() for name in ("search", "held_out", "gap")}


def judge_gap(
    search: ArrayLike,
    held_out: ArrayLike,
    *,
    baseline_search: ArrayLike,
    baseline_held_out: ArrayLike,
    level: float = 0.95,
) -> JudgeGap:
    """Standardised improvement under the search judge minus that under a held-out judge, paired by seed.

    The improvement is ``mean(x - b) / sd(b)``, with b the baseline's values on the same seeds. Its t interval
    uses the jackknife variance, seeds left out one at a time, which counts the uncertainty of the SD too: an
    interval on the mean alone, or the delta method, covered too seldom at 32 seeds and large improvements.

    Args:
        search: a per-image quantity (margins, say) of the prompt under the search judge, shape (n,).
        held_out: of the same images under the held-out judge.
        baseline_search, baseline_held_out: of the baseline's images of the same seeds.
        level: coverage of the intervals.

    Returns:
        ``undefined`` below two seeds, or where a judge gives every baseline image the same value;
        ``unreliable`` below 16, and without interval below three.

    Raises:
        ValueError: different lengths, or a value that is not finite.
    """
    check_level(level)
    vectors = {
        "search": check_vector(search, "search"),
        "held_out": check_vector(held_out, "held_out"),
        "baseline_search": check_vector(baseline_search, "baseline_search"),
        "baseline_held_out": check_vector(baseline_held_out, "baseline_held_out"),
    }
    lengths = {name: len(vector) for name, vector in vectors.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the lengths differ ({lengths}); pair all four by seed first")
    first = _improvement(vectors["search"], vectors["baseline_search"])
    second = _improvement(vectors["held_out"], vectors["baseline_held_out"])
    both = None
    if first is not None and second is not None:
        known = len(first[1]) and len(second[1])
        both = (first[0] - second[0], first[1] - second[1] if known else np.zeros(0))
    n = lengths["search"]
    return JudgeGap(
        _estimate(first, n, "improvement under the search judge, baseline SDs", level),
        _estimate(second, n, "improvement under the held-out judge, baseline SDs", level),
        _estimate(both, n, "gap of standardised improvements, paired, jackknife", level),
    )


RELIABLE_FROM = 16
"""Fewest seeds for which the 95 % interval was seen to cover 93 % or more."""

Improvement = tuple[float, NDArray[np.float64]]


def _improvement(values: NDArray[np.float64], baseline: NDArray[np.float64]) -> Improvement | None:
    """The standardised improvement, and that with each seed left out; None where it has no value."""
    n = len(values)
    # a constant baseline can miss 0 by rounding
    tiny = 1e-12 * max(1.0, float(np.abs(baseline).max(initial=0.0)))
    if n < 2 or float(np.std(baseline, ddof=1)) <= tiny:
        return None
    difference = values - baseline
    value = float(difference.mean()) / float(np.std(baseline, ddof=1))
    if n < 3:
        return value, np.zeros(0)
    centred = baseline - baseline.mean()
    squares = float(centred @ centred) - centred**2 * n / (n - 1)
    # one seed may carry the whole spread; without it there is no improvement to speak of
    if float(squares.min()) <= (n - 2) * tiny**2:
        return value, np.zeros(0)
    left_out = (difference.sum() - difference) / (n - 1) / np.sqrt(squares / (n - 2))
    return value, left_out


def _estimate(found: Improvement | None, n: int, method: str, level: float) -> Estimate:
    if found is None:
        return Estimate.undefined(n, method)
    value, left_out = found
    if len(left_out) == 0:
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.stats import t

    variance = (n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2))
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(np.sqrt(variance))
    return Estimate(
        value, value - half, value + half, n, method, "ok" if n >= RELIABLE_FROM else "unreliable"
    )
