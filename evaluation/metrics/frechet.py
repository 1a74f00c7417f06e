"""Fréchet distance between two sets of features (Heusel et al. 2017; Dowson and Landau 1982)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import Estimate, Status
from evaluation.metrics._checks import check_pair

RELIABLE_FROM = 2048
"""Below this many images in the smaller set the value is dominated by its bias, and rewards mode collapse."""


def frechet_distance(a: ArrayLike, b: ArrayLike) -> Estimate:
    """``|mean_a - mean_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))``, with covariances over n - 1.

    With X = (a - mean) / sqrt(n - 1) and Y likewise, the last trace is the sum of the singular values of X
    Y^T: exact for any rank, no matrix square root, no regularisation. When a set has more rows than features
    its triangular factor, which has the same covariance, can stand for it; the cheaper of the two ways is
    taken.

    Args:
        a: features, shape (n, d).
        b: features, shape (m, d).

    Returns:
        value >= 0 (0 for equal moments), without interval; n is the size of the smaller set. ``undefined``
        below two images in either set, ``unreliable`` below 2,048.

    Raises:
        ValueError: wrong shapes, different widths, or a feature that is not finite.
    """
    first, second = check_pair(a, b, names=("a", "b"))
    n = min(len(first), len(second))
    method = "Fréchet distance, exact"
    if n < 2:
        return Estimate.undefined(n, method)
    mean_a, mean_b = first.mean(axis=0), second.mean(axis=0)
    x = (first - mean_a) / np.sqrt(len(first) - 1)
    y = (second - mean_b) / np.sqrt(len(second) - 1)
    spread = float(np.sum(x * x)) + float(np.sum(y * y))
    value = float(np.sum((mean_a - mean_b) ** 2)) + spread - 2 * _trace_of_root(x, y)
    # the exact value cannot be negative; what rounding leaves below zero is zero
    status: Status = "ok" if n >= RELIABLE_FROM else "unreliable"
    return Estimate(max(value, 0.0), None, None, n, method, status)


def _trace_of_root(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """tr((X^T X Y^T Y)^(1/2)), the nuclear norm of X Y^T."""
    from scipy.linalg import svdvals

    d = x.shape[1]
    if _cost(len(x), len(y), d) > _reduced_cost(len(x), len(y), d):
        x, y = _triangular(x), _triangular(y)
    return float(svdvals(x @ y.T).sum())


def _triangular(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """R of x = Q R, with R^T R = x^T x, when it is the smaller of the two."""
    if len(x) <= x.shape[1]:
        return x
    return np.asarray(np.linalg.qr(x, mode="r"), dtype=np.float64)


def _cost(n: int, m: int, d: int) -> int:
    """Multiplications, roughly: the product, then the singular values."""
    return n * m * d + 4 * max(n, m) * min(n, m) ** 2


def _reduced_cost(n: int, m: int, d: int) -> int:
    factors = sum(2 * rows * d * d for rows in (n, m) if rows > d)
    return factors + _cost(min(n, d), min(m, d), d)
