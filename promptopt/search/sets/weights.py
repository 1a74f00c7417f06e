"""Weights of a set: the convex problem, alone and for sets of growing size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from promptopt.search.sets.embeddings import CAUTION, FloatArray, Form

LEAST_SHARE = 0.02
"""Smaller weights are noise: a prompt that would get less is left out and the others solved again."""
_LOOKED_AT = 12  # candidates of steepest descent that are tried as the next prompt of a set
_HALVINGS = 40  # of the multiplier of a floor


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimize ``w'Qw - 2 w'b + w't`` over weights, with the mean of ``floored`` at least ``floor``.

    Attributes:
        quadratic: Q, (k, k), positive semidefinite: `Form.ridged`.
        across: b, (k,).
        linear: t, (k,).
        floored, floor: a value of each prompt, (k,), whose weighted mean may not fall below `floor`; None
            for no constraint. It is met as far as the prompts allow.
    """

    quadratic: FloatArray
    across: FloatArray
    linear: FloatArray
    floored: FloatArray | None = None
    floor: float = -math.inf

    @classmethod
    def of(
        cls,
        form: Form,
        linear: FloatArray | None = None,
        *,
        floored: FloatArray | None = None,
        floor: float = -math.inf,
        caution: tuple[float, float] = (CAUTION, 1.0),
    ) -> Problem:
        """The problem of a form, with `caution` times the sampling error of the generated and real side."""
        quadratic = form.ridged(generated=caution[0], real=caution[1])
        zero = np.zeros(len(quadratic))
        return cls(quadratic, form.across, zero if linear is None else linear, floored, floor)

    def only(self, places: Sequence[int]) -> Problem:
        """Of some of the prompts."""
        rows = np.asarray(places)
        floored = None if self.floored is None else self.floored[rows]
        inside = self.quadratic[np.ix_(rows, rows)]
        return Problem(inside, self.across[rows], self.linear[rows], floored, self.floor)

    def over(self, form: Form) -> Problem:
        """The same terms and floor over other real images."""
        return replace(self, quadratic=form.ridged(), across=form.across)

    def value(self, weights: FloatArray) -> float:
        """The objective."""
        return float(weights @ self.quadratic @ weights - 2 * weights @ self.across + weights @ self.linear)

    def gradient(self, weights: FloatArray) -> FloatArray:
        """Its gradient, (k,)."""
        return np.asarray(2 * (self.quadratic @ weights - self.across) + self.linear)

    def solve(self, rows: Sequence[int] | None = None) -> FloatArray:
        """The best weights, (k,), with weight on `rows` alone where these are given."""
        chosen = np.arange(len(self.across)) if rows is None else np.asarray(rows)
        weights = np.zeros(len(self.across))
        weights[chosen] = self._solve(chosen)
        return weights

    def _solve(self, rows: np.ndarray) -> FloatArray:
        quadratic = self.quadratic[np.ix_(rows, rows)]
        pull = self.across[rows] - self.linear[rows] / 2
        found = on_simplex(quadratic, pull)
        if self.floored is None:
            return found
        held = self.floored[rows]
        if held @ found >= self.floor:
            return found
        best = np.zeros(len(rows))
        best[int(held.argmax())] = 1.0
        if held.max() <= self.floor:
            return best
        low, high = 0.0, 1.0  # the multiplier: the mean of `held` grows with it
        scale = float(np.abs(pull).max()) / max(float(np.ptp(held)), 1e-12)
        while held @ on_simplex(quadratic, pull + high * scale * held) < self.floor and high < 2**30:
            low, high = high, 2 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if held @ on_simplex(quadratic, pull + middle * scale * held) < self.floor:
                low = middle
            else:
                high = middle
        return on_simplex(quadratic, pull + high * scale * held)

    def without_crumbs(self, rows: Sequence[int] | None = None, *, least: float = LEAST_SHARE) -> FloatArray:
        """As `solve`, but no weight between 0 and `least`: the smallest goes, then all is solved again."""
        chosen = list(range(len(self.across))) if rows is None else list(rows)
        while True:
            weights = self.solve(chosen)
            kept = [i for i in chosen if weights[i] > 0]
            small = [i for i in kept if weights[i] < least]
            if not small or len(kept) == 1:
                return weights
            chosen = [i for i in kept if i != min(small, key=lambda i: (weights[i], i))]

    def path(self, most: int) -> list[FloatArray]:
        """Weights of sets of 1, 2, ... prompts, each the one before and the prompt that lowers it most.

        It ends early where no prompt lowers the objective any more.
        """
        found: list[FloatArray] = []
        chosen: list[int] = []
        value = (math.inf, math.inf)
        while len(chosen) < min(most, len(self.across)):
            best: tuple[tuple[float, float], int, FloatArray] | None = None
            for i in self._steepest(found[-1] if found else None, chosen):
                weights = self.solve([*chosen, i])
                reached = self._shortfall(weights), self.value(weights)
                if best is None or reached < best[0]:
                    best = reached, i, weights
            if best is None or best[0] >= (value[0], value[1] - 1e-9):
                break
            value = best[0]
            chosen.append(best[1])
            found.append(best[2])
        return found

    def _shortfall(self, weights: FloatArray) -> float:
        """By how much the floor is missed; 0 where it is met."""
        return 0.0 if self.floored is None else round(max(self.floor - float(self.floored @ weights), 0.0), 9)

    def _steepest(self, weights: FloatArray | None, chosen: Sequence[int]) -> list[int]:
        if weights is None:
            alone = np.diag(self.quadratic) - 2 * self.across + self.linear
            order = np.argsort(alone, kind="stable")
        else:
            order = np.argsort(self.gradient(weights), kind="stable")
        free = [int(i) for i in order if int(i) not in chosen]
        if self.floored is None or (weights is not None and self._shortfall(weights) == 0.0):
            return free[:_LOOKED_AT]
        high = sorted(free, key=lambda i: -float(self.floored[i]))  # type: ignore[index]
        return list(dict.fromkeys([*high[: _LOOKED_AT // 2], *free[:_LOOKED_AT]]))[:_LOOKED_AT]


def on_simplex(quadratic: FloatArray, pull: FloatArray) -> FloatArray:
    """The w of 0 or more, sum 1, that minimizes ``w'Qw - 2 w'b``, by SciPy's non-negative least squares.

    On the simplex the objective is ``w'(Q - b1' - 1b' + c11')w - c``, a squared norm for a c large enough,
    and the point of a hull nearest to the origin is a non-negative least squares problem.
    """
    from scipy.optimize import nnls

    k = len(pull)
    if k == 1:
        return np.ones(1)
    values, vectors = np.linalg.eigh(quadratic)
    top = max(float(values[-1]), 1e-12)
    values = np.maximum(values, 1e-9 * top)
    constant = float(((vectors.T @ pull) ** 2 / values).sum())
    products = quadratic - pull[:, None] - pull[None, :] + constant
    values, vectors = np.linalg.eigh((products + products.T) / 2)
    points = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    size = math.sqrt(float(np.mean(np.sum(points**2, axis=0))))
    if size == 0.0:
        return np.full(k, 1.0 / k)
    stacked = np.vstack([points / size, np.ones(k)])
    found, _ = nnls(stacked, np.append(np.zeros(k), 1.0), maxiter=50 * k)
    return np.asarray(found / found.sum())
