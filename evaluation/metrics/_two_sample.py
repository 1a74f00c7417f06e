"""The two-sample U-statistic of a kernel, with an interval that holds near equality and far from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.estimate import Estimate, Status, check_level
from evaluation.metrics._score_interval import score_interval

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Kernel = Callable[[Matrix, Matrix], Matrix]

BLOCK = 1024
"""Rows of the kernel matrix held at a time."""

INTERVAL_FROM = 4
"""Fewest images in a set from which the spread of the kernel between pairs has an unbiased estimate."""


@dataclass(frozen=True)
class Within:
    """Kernel values inside one set of n rows.

    Attributes:
        means: each row's mean with the n - 1 others.
        selves: each row's value with itself.
        squares: sum of squares over all ordered pairs of different rows.
    """

    means: Vector
    selves: Vector
    squares: float

    @classmethod
    def of(cls, gram: Matrix) -> Within:
        """From the whole kernel matrix, (n, n)."""
        selves = np.diagonal(gram).copy()
        n = len(gram)
        return cls(
            (gram.sum(axis=1) - selves) / (n - 1), selves, float(np.vdot(gram, gram) - selves @ selves)
        )

    @property
    def with_selves(self) -> Vector:
        """Each row's mean with all n rows, itself among them."""
        n = len(self.means)
        return self.means + (self.selves - self.means) / n

    @property
    def interaction(self) -> float:
        """Variance over pairs of what is left of the kernel without its row and column means.

        Unbiased (Székely and Rizzo 2014, U-centring); four rows or more.
        """
        n = len(self.means)
        rows = (n - 1) * self.means
        left = self.squares - 2 * float(rows @ rows) / (n - 2) + float(rows.sum()) ** 2 / ((n - 1) * (n - 2))
        return max(left, 0.0) / (n * (n - 3))


@dataclass(frozen=True)
class Across:
    """Kernel values between two sets: mean of each row of either with the other set, and sum of squares."""

    of_x: Vector
    of_y: Vector
    squares: float

    @classmethod
    def of(cls, gram: Matrix) -> Across:
        """From the whole kernel matrix, (n, m)."""
        return cls(gram.mean(axis=1), gram.mean(axis=0), float(np.vdot(gram, gram)))

    @property
    def interaction(self) -> float:
        """As `Within.interaction`, unbiased; two rows or more in each set."""
        n, m = len(self.of_x), len(self.of_y)
        total = float(self.of_x.mean())
        left = (
            self.squares
            - m * float(self.of_x @ self.of_x)
            - n * float(self.of_y @ self.of_y)
            + n * m * total**2
        )
        return max(left, 0.0) / ((n - 1) * (m - 1))


def within(x: Matrix, kernel: Kernel) -> Within:
    """Of two rows or more."""
    means, selves, squares = np.empty(len(x)), np.empty(len(x)), 0.0
    for start in range(0, len(x), BLOCK):
        stop = min(start + BLOCK, len(x))
        gram = kernel(x[start:stop], x)
        place = np.arange(stop - start), np.arange(start, stop)
        selves[start:stop] = gram[place]
        gram[place] = 0.0
        means[start:stop] = gram.sum(axis=1) / (len(x) - 1)
        squares += float(np.vdot(gram, gram))
    return Within(means, selves, squares)


def across(x: Matrix, y: Matrix, kernel: Kernel) -> Across:
    """Of one row or more on either side."""
    of_x, of_y, squares = np.empty(len(x)), np.zeros(len(y)), 0.0
    for start in range(0, len(x), BLOCK):
        gram = kernel(x[start : start + BLOCK], y)
        of_x[start : start + BLOCK] = gram.mean(axis=1)
        of_y += gram.sum(axis=0)
        squares += float(np.vdot(gram, gram))
    return Across(of_x, of_y / len(x), squares)


def u_statistic(
    x: Matrix, y: Matrix, kernel: Kernel, *, level: float, method: str, reliable_from: int
) -> Estimate:
    """Unbiased MMD^2 between x (n, d) and y (m, d), with a score interval for new draws of both sets.

    The variance has two parts (Hoeffding 1948). That of single images, ``4 var f(x) / n + 4 var f(y) / m``
    with f the difference of the two mean embeddings, is proportional to MMD^2 along f's direction. That of
    pairs, ``2 s_x / n (n - 1) + 2 s_y / m (m - 1) + 4 s_xy / n m`` with s the spread of the doubly centered
    kernel, stays when the distributions are equal. The interval holds every tau with::

        (value - tau)^2 <= t^2 (pairs + singles max(tau, 0) / MMD_V^2)

    (MMD_V^2 the V-statistic, which is never negative). var f is the geometric mean of its two plug-ins, with
    and without the images themselves in the mean embeddings: where the kernel's diagonal varies, the first is
    too large and the second too small. t is Student's with Welch's degrees of freedom.
    """
    check_level(level)
    n, m = len(x), len(y)
    few = min(n, m)
    if few < 2:
        return Estimate.undefined(few, method)
    of_x, of_y, both = within(x, kernel), within(y, kernel), across(x, y, kernel)
    value = float(of_x.means.mean() + of_y.means.mean() - both.of_x.mean() - both.of_y.mean())
    if few < INTERVAL_FROM:
        return Estimate(value, None, None, few, method, "unreliable")
    pairs = (
        2 * of_x.interaction / (n * (n - 1))
        + 2 * of_y.interaction / (m * (m - 1))
        + 4 * both.interaction / (n * m)
    )
    singles = [
        (witness_variance(own, other) * 4 / k, k)
        for own, other, k in ((of_x, both.of_x, n), (of_y, both.of_y, m))
    ]
    biased = float(of_x.with_selves.mean() + of_y.with_selves.mean() - both.of_x.mean() - both.of_y.mean())
    first = sum(part for part, _ in singles)
    if first <= 0 or biased <= 0:  # copies of one image: nothing to take an interval from
        return Estimate(value, None, None, few, method, "unreliable")
    from scipy.special import stdtrit

    freedom = first**2 / sum(part**2 / (size - 1) for part, size in singles)
    t = float(stdtrit(freedom, (1 + level) / 2))
    low, high = score_interval(value, fixed=pairs, slope=first / biased, t=t)
    status: Status = "ok" if few >= reliable_from else "unreliable"
    return Estimate(value, low, high, few, method, status)


def witness_variance(own: Within, other: Vector | float = 0.0) -> float:
    """Variance over one set's images of their mean kernel value with their own set less the other's."""
    without, including = own.means - other, own.with_selves - other
    return math.sqrt(float(np.var(without, ddof=1)) * float(np.var(including, ddof=1)))
