"""Weighted multinomial logistic regression with an L2 penalty: its optimum, and its inverse Hessian there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.probe import NotConvergedError
from evaluation.influence._checks import Matrix, Vector

Inverse = Callable[[Matrix], Matrix]

DENSE = 2048
"""Parameters up to which the Hessian is factored (Cholesky); beyond, conjugate gradients solve with it."""

STEPS = 100


@dataclass(frozen=True, eq=False)
class Rows:
    """What a regression is trained on: x (n, d), codes (n,) from 0 to classes - 1, weights (n,) from 0 on."""

    x: Matrix
    codes: NDArray[np.intp]
    weights: Vector

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.weights, other.weights]),
        )


@dataclass(frozen=True, eq=False)
class Logistic:
    """The optimum of ``sum_i w_i loss_i + l2 / 2 |coefficients|^2``; intercepts are not penalized.

    Of c + 1 classes only c contrasts of the logits matter, so that everything is in these coordinates.

    Attributes:
        theta: shape (c, d + 1), the intercepts last.
        contrasts: shape (c, c + 1), orthonormal and orthogonal to ones; logits are ``x theta' contrasts``.
    """

    theta: Matrix
    contrasts: Matrix
    _problem: _Problem
    _logs: Matrix

    def log_probabilities(self, x: Matrix) -> Matrix:
        """Shape (n, c + 1)."""
        return log_probabilities(with_ones(x) @ self.theta.T, self.contrasts)

    @cached_property
    def _inverse(self) -> Inverse:
        weighted = self._problem.rows.weights[:, None, None] * curvature(self._logs, self.contrasts)
        return self._problem.inverse(weighted)

    def solve(self, gradients: Matrix) -> Matrix:
        """Inverse Hessian times each of k gradients, both (k, c, d + 1)."""
        problem = self._problem
        inside = problem.inward(gradients)
        solved = problem.outward(self._inverse(inside))
        # outside the span of the training rows the Hessian is l2 times the identity
        return solved + (gradients - problem.outward(inside)) / problem.l2

    def stepped(self, x: Matrix, codes: NDArray[np.intp], weight: float) -> Matrix:
        """theta after one Newton step with each of n further rows, alone, at this weight: (n, c, d + 1).

        ``(H + w J'QJ)^-1 J'r = H^-1 J' (1 + w Q J H^-1 J')^-1 r``, with J'r the gradient of the row's loss.
        """
        logs, rows, c = self.log_probabilities(x), with_ones(x), len(self.theta)
        unit = np.eye(c)[None, :, :, None] * rows[:, None, None, :]
        solved = self.solve(unit.reshape(-1, c, rows.shape[1])).reshape(unit.shape)
        leverage = np.einsum("nabd,nd->nba", solved, rows)
        damping = np.eye(c) + weight * curvature(logs, self.contrasts) @ leverage
        along = np.linalg.solve(damping, residuals(logs, codes, self.contrasts)[:, :, None])[:, :, 0]
        return self.theta - weight * np.einsum("na,nabd->nbd", along, solved)


def with_ones(x: Matrix) -> Matrix:
    """The rows with a last column of ones."""
    return np.column_stack([x, np.ones(len(x))])


def log_probabilities(reduced: Matrix, contrasts: Matrix) -> Matrix:
    """Of contrasts of the logits, (..., c), the log probabilities, (..., c + 1)."""
    from scipy.special import log_softmax

    return np.asarray(log_softmax(reduced @ contrasts, axis=-1))


def residuals(logs: Matrix, codes: NDArray[np.intp], contrasts: Matrix) -> Matrix:
    """Derivative of each row's loss by the contrasts of its logits, (n, c)."""
    p = np.exp(logs)
    p[np.arange(len(p)), codes] -= 1
    return p @ contrasts.T


def curvature(logs: Matrix, contrasts: Matrix) -> Matrix:
    """Second derivative of each row's loss by the contrasts of its logits, (n, c, c)."""
    p = np.exp(logs)
    means = p @ contrasts.T
    spread = np.einsum("ac,nc,bc->nab", contrasts, p, contrasts, optimize=True)
    return spread - means[:, :, None] * means[:, None, :]


@dataclass(frozen=True, eq=False)
class _Problem:
    """A regression, in the span of its rows if they are fewer than the features."""

    design: Matrix  # (n, r + 1), the last column 1
    rows: Rows
    contrasts: Matrix
    basis: Matrix | None  # (d, r), orthonormal; None: r = d
    l2: float

    @property
    def penalty(self) -> Vector:
        return np.append(np.full(self.design.shape[1] - 1, self.l2), 0.0)

    def inward(self, theta: Matrix) -> Matrix:
        """(..., d + 1) to (..., r + 1)."""
        if self.basis is None:
            return theta
        return np.concatenate([theta[..., :-1] @ self.basis, theta[..., -1:]], axis=-1)

    def outward(self, theta: Matrix) -> Matrix:
        """(..., r + 1) to (..., d + 1)."""
        if self.basis is None:
            return theta
        return np.concatenate([theta[..., :-1] @ self.basis.T, theta[..., -1:]], axis=-1)

    def logs(self, theta: Matrix) -> Matrix:
        return log_probabilities(self.design @ theta.T, self.contrasts)

    def value(self, theta: Matrix, logs: Matrix) -> float:
        losses = -logs[np.arange(len(logs)), self.rows.codes]
        return float(self.rows.weights @ losses + 0.5 * np.sum(self.penalty * theta**2))

    def gradient(self, theta: Matrix, logs: Matrix) -> Matrix:
        slopes = self.rows.weights[:, None] * residuals(logs, self.rows.codes, self.contrasts)
        return slopes.T @ self.design + self.penalty * theta

    def inverse(self, curved: Matrix) -> Inverse:
        """The inverse Hessian, as a function of gradients (k, c, r + 1); curved (n, c, c) holds weights."""
        c, width = curved.shape[1], self.design.shape[1]
        if c * width > DENSE:
            return self._conjugate(curved)
        from scipy.linalg import cho_factor, cho_solve

        hessian = np.empty((c, width, c, width))
        for a in range(c):
            for b in range(a, c):
                block = self.design.T @ (curved[:, a, b, None] * self.design)
                hessian[a, :, b], hessian[b, :, a] = block, block.T
        flat = hessian.reshape(c * width, c * width)
        flat[np.diag_indices(c * width)] += np.tile(self.penalty, c)
        factor = cho_factor(flat)

        def solve(right: Matrix) -> Matrix:
            return np.asarray(cho_solve(factor, right.reshape(len(right), -1).T)).T.reshape(right.shape)

        return solve

    def _conjugate(self, curved: Matrix) -> Inverse:
        from scipy.sparse.linalg import LinearOperator, cg

        shape = curved.shape[1], self.design.shape[1]
        size = shape[0] * shape[1]

        def product(flat: Vector) -> Vector:
            theta = flat.reshape(shape)
            along = np.einsum("nab,nb->na", curved, self.design @ theta.T)
            return (along.T @ self.design + self.penalty * theta).ravel()

        diagonal = (np.einsum("naa,nj->aj", curved, self.design**2) + self.penalty).ravel()
        scaled = LinearOperator((size, size), matvec=lambda flat: flat / diagonal, dtype=np.float64)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)

        def solve(right: Matrix) -> Matrix:
            solved = np.empty(right.shape)
            for place, one in enumerate(right):
                solved[place].flat, failed = cg(
                    operator, one.ravel(), rtol=1e-10, maxiter=10 * size, M=scaled
                )
                if failed:
                    raise NotConvergedError(f"conjugate gradients did not converge; raise l2 ({self.l2:g})")
            return solved

        return solve


def fit_logistic(rows: Rows, *, classes: int, l2: float, start: Logistic | None = None) -> Logistic:
    """Newton's method with step halving; every class needs a row with a weight above 0.

    Exact for any d: with fewer rows than features the optimum lies in the span of the rows, and the rest of
    the Hessian is known (`Logistic.solve`).

    Raises:
        NotConvergedError: no optimum within 100 steps.
    """
    from scipy.linalg import helmert

    basis = np.linalg.qr(rows.x.T)[0] if len(rows.x) < rows.x.shape[1] else None
    design = with_ones(rows.x if basis is None else rows.x @ basis)
    problem = _Problem(design, rows, np.asarray(helmert(classes)), basis, l2)
    theta = np.zeros((classes - 1, design.shape[1])) if start is None else problem.inward(start.theta)
    logs = problem.logs(theta)
    value = problem.value(theta, logs)
    for _ in range(STEPS):
        gradient = problem.gradient(theta, logs)
        inverse = problem.inverse(rows.weights[:, None, None] * curvature(logs, problem.contrasts))
        step = inverse(gradient[None])[0]
        decrement = float(np.vdot(gradient, step))
        size = 1.0
        while True:
            moved = theta - size * step
            logs = problem.logs(moved)
            reached = problem.value(moved, logs)
            # near the optimum the decrease is less than rounding shows
            if reached <= value - 1e-4 * size * decrement or decrement < 1e-10 * max(value, 1.0):
                break
            size /= 2
            if size < 1e-10:
                raise NotConvergedError(f"the probe found no way down; raise l2 ({l2:g})")
        theta, value = moved, reached
        if decrement <= 1e-20 * max(value, 1.0):
            return Logistic(problem.outward(theta), problem.contrasts, problem, logs)
    raise NotConvergedError(f"the probe did not converge in {STEPS} steps; raise l2 ({l2:g})")
