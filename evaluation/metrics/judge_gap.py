"""Is the judge being gamed? The same images under a second encoder family that the search never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import Estimate, check_level, check_vector
from promptopt.base.errors import ArgumentError


@dataclass(frozen=True)
class JudgeGap:
    """What a prompt gained over the baseline under two judges, in units of the baseline's per-image SD.

    Attributes:
        search: improvement under the judge that the search used.
        held_out: improvement under the other one.
        gap: the first minus the second. An interval above 0 says that the search judge sees more improvement
            than the other confirms, which is what reward hacking looks like.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> plain, better = rng.normal(size=16), rng.normal(2, 1, 16)
        >>> gap = judge_gap(better, plain, baseline_search=plain, baseline_held_out=plain[::-1])
        >>> gap.search.value > gap.held_out.value
        True
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
    paired: bool = True,
    level: float = 0.95,
) -> JudgeGap:
    """Standardized improvement under the search judge minus that under a held-out judge, paired by image.

    The improvement is ``mean(x - b) / sd(b)``, with b the baseline's values: of the same seeds (`paired`), or
    of other images, say real ones. Its t interval uses the jackknife variance, seeds (or the images of either
    set) left out one at a time, which counts the uncertainty of the SD too: an interval on the mean alone, or
    the delta method, covered too seldom at 32 seeds and large improvements.

    Args:
        search: a per-image quantity (margins, say) of the images under the search judge, shape (n,).
        held_out: of the same images under the held-out judge.
        baseline_search, baseline_held_out: of the baseline's images, the same m images under both judges;
            with `paired` those of the same seeds, so m = n.
        paired: whether image i and baseline image i have one seed.
        level: coverage of the intervals.

    Returns:
        ``undefined`` below two images, or where a judge gives every baseline image the same value;
        ``unreliable`` below 16 of either set, and without interval below three.

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
    if paired and len(set(lengths.values())) != 1:
        raise ArgumentError(f"the lengths differ ({lengths}); pair all four by seed first")
    if len({*list(lengths.values())[:2]}) != 1 or len({*list(lengths.values())[2:]}) != 1:
        raise ArgumentError(f"the lengths differ ({lengths}); give the same images under both judges")
    first = _improvement(vectors["search"], vectors["baseline_search"], paired)
    second = _improvement(vectors["held_out"], vectors["baseline_held_out"], paired)
    both = None
    if first is not None and second is not None:
        pairs = zip(first[1], second[1], strict=True)
        both = (first[0] - second[0], [a - b if len(a) and len(b) else np.zeros(0) for a, b in pairs])
    n = min(lengths.values())
    how = "paired, jackknife" if paired else "jackknife over the images of both sets"
    return JudgeGap(
        _estimate(first, n, "improvement under the search judge, baseline SDs", level),
        _estimate(second, n, "improvement under the held-out judge, baseline SDs", level),
        _estimate(both, n, f"gap of standardized improvements, {how}", level),
    )


RELIABLE_FROM = 16
"""Fewest images for which the 95 % interval was seen to cover 93 % or more."""

Vector = NDArray[np.float64]
Improvement = tuple[float, list[Vector]]


def _improvement(values: Vector, baseline: Vector, paired: bool) -> Improvement | None:
    """The standardized improvement, and that with each image left out: one vector if paired, else one for
    either set; empty where it has no value. None where the whole has none."""
    n = len(baseline)
    # a constant baseline can miss 0 by rounding
    tiny = 1e-12 * max(1.0, float(np.abs(baseline).max(initial=0.0)))
    if n < 2 or len(values) < (2 if paired else 1) or float(np.std(baseline, ddof=1)) <= tiny:
        return None
    spread = float(np.std(baseline, ddof=1))
    gain = float(values.mean() - baseline.mean())
    value, unknown = gain / spread, [np.zeros(0)] * (1 if paired else 2)
    if n < 3 or len(values) < 2:
        return value, unknown
    centered = baseline - baseline.mean()
    squares = float(centered @ centered) - centered**2 * n / (n - 1)
    # one image may carry the whole spread; without it there is no improvement to speak of
    if float(squares.min()) <= (n - 2) * tiny**2:
        return value, unknown
    spreads = np.sqrt(squares / (n - 2))
    if paired:
        difference = values - baseline
        return value, [(difference.sum() - difference) / (n - 1) / spreads]
    means = (values.sum() - values) / (len(values) - 1)
    baselines = (baseline.sum() - baseline) / (n - 1)
    return value, [(means - baseline.mean()) / spread, (values.mean() - baselines) / spreads]


def _estimate(found: Improvement | None, n: int, method: str, level: float) -> Estimate:
    if found is None:
        return Estimate.undefined(n, method)
    value, left_out = found
    if not all(len(part) for part in left_out):
        return Estimate(value, None, None, n, method, "unreliable")
    from scipy.stats import t

    parts = [(len(x) - 1) / len(x) * float(np.sum((x - x.mean()) ** 2)) for x in left_out]
    variance = sum(parts)
    half = 0.0
    if variance > 0:  # Welch's degrees of freedom; those of the pairs where there is one part
        used = sum((part / variance) ** 2 / (len(x) - 1) for part, x in zip(parts, left_out, strict=True))
        half = float(t.ppf((1 + level) / 2, 1 / used)) * float(np.sqrt(variance))
    return Estimate(
        value, value - half, value + half, n, method, "ok" if n >= RELIABLE_FROM else "unreliable"
    )
