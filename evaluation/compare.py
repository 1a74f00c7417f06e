"""Same-seed comparison of two prompts or generators."""

from __future__ import annotations

from numpy.typing import ArrayLike

from evaluation.estimate import Estimate, check_vector


def paired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean of ``a[i] - b[i]`` with Student's t interval on the differences.

    Entry i of both belongs to the same seed, so what the seed contributes to both cancels, and the interval
    is narrower than that of two separate means. Works on any per-image quantity: margins, log-odds,
    `evaluation.metrics.mmd.mmd_contributions`.

    Args:
        a, b: shape (n,), same order of seeds. No pair gives ``undefined``, one ``unreliable``.
        level: coverage of the interval.

    Raises:
        ValueError: different lengths, or a value that is not finite.
    """
    first, second = check_vector(a, "a"), check_vector(b, "b")
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b {len(second)}; pair them by seed first")
    return Estimate.of_mean(first - second, level=level, method="paired difference, t interval")
