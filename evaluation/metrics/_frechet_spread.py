"""How much a Fréchet distance varies over new draws of its sets: its derivatives by the images' weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics._two_sample import Across, Within

Matrix = NDArray[np.float64]

ROWS = 128
"""Images of a set, evenly spaced, whose pairs stand for all."""

_NODES = np.exp(np.arange(-8.0, 12.0))


@dataclass(frozen=True)
class Spread:
    """The terms of the distance's variance.

    Attributes:
        singles: variance of the first derivatives (the infinitesimal jackknife's), summed over the sets. It
            counts `pairs` twice.
        pairs: variance of the second derivatives, which is what is left between equal distributions.
        bias: how much too high the second derivatives make the distance on average.
    """

    singles: float
    pairs: float
    bias: float

    def slope(self, value: float) -> float:
        """Variance for each unit of distance above the bias."""
        return self.singles / value


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Some images of one set of `count`.

    Attributes:
        rows: shape (k, d), centered.
        balanced: shape (k, r), in the coordinates in which both covariances are the same diagonal matrix.
    """

    count: int
    rows: Matrix
    balanced: Matrix


def chosen(count: int) -> NDArray[np.int64]:
    """Which of so many images."""
    return np.unique(np.linspace(0, count - 1, min(count, ROWS)).round().astype(np.int64))


def second_order(
    a: Coordinates | None, b: Coordinates | None, diagonal: NDArray[np.float64]
) -> tuple[float, float]:
    """Variance and mean of the distance's second-order part; a set that is held fixed is None.

    In the balanced coordinates, with S the common diagonal covariance, E_a and E_b what the covariances are
    off it, and m_a, m_b the means, the second-order part of the squared distance is::

        |m_a|^2 + |m_b|^2 (balanced) - 2 m_a . m_b (features) + 1/2 sum_pq (E_a - E_b)_pq^2 / (S_p + S_q)

    (the Bures metric's, Bhatia, Jain and Lim 2019): a quadratic form in the images' weights, whose kernel
    between two images is taken here.
    """
    pairs = bias = 0.0
    for side in (a, b):
        if side is None:
            continue
        gram = side.balanced @ side.balanced.T + _covariances(side.balanced, side.balanced, diagonal) / 2
        within = Within.of(gram)
        pairs += 2 * within.interaction / (side.count * (side.count - 1))
        bias += (float(within.selves.mean()) - float(gram.mean())) / side.count
    if a is not None and b is not None:
        gram = 2 * (a.rows @ b.rows.T) + _covariances(a.balanced, b.balanced, diagonal)
        pairs += Across.of(gram).interaction / (a.count * b.count)
    return pairs, bias


def _covariances(x: Matrix, y: Matrix, diagonal: NDArray[np.float64]) -> Matrix:
    """``sum_pq x_p x_q y_p y_q / (S_p + S_q)`` for each row of x and of y, to about 0.1 %.

    1 / s is the integral of exp(-s t) over t, and by exp the trapezoidal rule in log t is quick: the double
    sum becomes a few squares of single sums. Coordinates below 1e-4 of the largest count a little less.
    """
    largest = float(diagonal.max())
    total = np.zeros((len(x), len(y)))
    for node in _NODES:
        sums = (x * (np.sqrt(node) * np.exp(-node * diagonal / largest))) @ y.T
        total += np.multiply(sums, sums, out=sums)
    return total / largest
