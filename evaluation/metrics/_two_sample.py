"""The two-sample U-statistic of a kernel, with the interval from its first-order projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.estimate import Estimate, Status, check_level

Matrix = NDArray[np.float64]
Kernel = Callable[[Matrix, Matrix], Matrix]

BLOCK = 1024
"""Rows of the kernel matrix held at a time."""


@dataclass(frozen=True)
class RowMeans:
    """Mean kernel value of each row with its own set (itself left out) and with the other set."""

    own: NDArray[np.float64]
    other: NDArray[np.float64]


def row_means(x: Matrix, y: Matrix, kernel: Kernel) -> RowMeans:
    """For each row of x (at least two): its mean kernel value over the other rows of x, and over y."""
    own, other = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), BLOCK):
        stop = min(start + BLOCK, len(x))
        gram = kernel(x[start:stop], x)
        gram[np.arange(stop - start), np.arange(start, stop)] = 0.0
        own[start:stop] = gram.sum(axis=1) / (len(x) - 1)
        other[start:stop] = kernel(x[start:stop], y).mean(axis=1)
    return RowMeans(own, other)


def u_statistic(
    x: Matrix, y: Matrix, kernel: Kernel, *, level: float, method: str, reliable_from: int
) -> Estimate:
    """Unbiased MMD^2 between x (n, d) and y (m, d) with a t interval.

    The variance is that of the first-order (Hájek) projection: 4 var(u) / n + 4 var(v) / m, where u_i is
    x_i's mean kernel value with the other x minus that with y, and v_j the same for y_j; the degrees of
    freedom are Welch's. Between equal distributions the projection vanishes and what is measured in its place
    counts the second-order part twice: there the interval is up to 1.4 times as wide as need be.
    """
    from scipy.special import stdtrit

    check_level(level)
    n = min(len(x), len(y))
    if n < 2:
        return Estimate.undefined(n, method)
    of_x, of_y = row_means(x, y, kernel), row_means(y, x, kernel)
    value = float(of_x.own.mean() + of_y.own.mean() - of_x.other.mean() - of_y.other.mean())
    parts = [(4 * float(np.var(r.own - r.other, ddof=1)) / len(r.own), len(r.own)) for r in (of_x, of_y)]
    variance = sum(part for part, _ in parts)
    half = 0.0
    if variance > 0:
        freedom = 1 / sum((part / variance) ** 2 / (size - 1) for part, size in parts)
        half = float(stdtrit(freedom, (1 + level) / 2)) * float(np.sqrt(variance))
    status: Status = "ok" if n >= reliable_from else "unreliable"
    return Estimate(value, value - half, value + half, n, method, status)
