"""What the measurements say of every prompt of a space: a Gaussian process over slots.

A prompt's value is a constant, plus an effect of each slot's option, plus effects of pairs of options, plus
one of its own; the sizes of the three are estimated. Prompts that share options inform each other, few images
count for less than many, and the best of many noisy scores shrinks toward what its words are worth.
The kernel and every symbol stand in `promptopt.search.model.kernel`; here k_s is 1 for the same option and 0
otherwise, and v are three variances at their most probable values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dposv, dpotri
from scipy.optimize import minimize
from scipy.sparse import csr_array

from promptopt.search.model.kernel import sum_and_pairs
from promptopt.search.model.noise import FloatArray, IntArray, means_with_noise

PRIOR = np.log([0.6, 0.4, 0.2])  # expected shares of options, pairs and the prompt's own; one unit wide
LIMITS = (-6.0, 4.0)  # of the logarithms of the three
_FITTED_TO = 160
"""Most prompts that the variances are fitted to: three numbers need no more, and each try costs n^3."""
_BLOCK = 64  # measured prompts taken into account at a time
_FEW_EFFECTS = 1_000  # of options and pairs of options, whose covariance is small beside the prompts'
_CONSTANT = 10.0  # variance of the constant, in those of the values: hardly any shrinkage


class SlotModel:
    """The posterior over prompts, given per-image scores of some.

    Args:
        codes: shape (n, slots), the options of each measured prompt as numbers from 0.
        scores: per-image scores of each, prefixes of one panel.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[0, 0], [0, 1], [1, 0]])
        >>> scores = [np.array([0.0, 0.2, 0.1]), np.array([1.1, 0.9, 1.2]), np.array([1.0, 1.1, 0.8])]
        >>> mean, sd = SlotModel(codes, scores).predict(np.array([[1, 1], [0, 0]]))
        >>> bool(mean[0] > mean[1]), bool(sd[0] > sd[1])
        (True, True)
    """

    def __init__(self, codes: IntArray, scores: Sequence[FloatArray]) -> None:
        self._begin(codes, *means_with_noise(scores, codes))

    def _begin(self, codes: IntArray, values: FloatArray, error: FloatArray) -> None:
        """Fit the variances to values whose errors have the covariance `error`."""
        self._codes, self._values, self._error = codes, values, error
        spread = float(np.var(self._values))
        # Variance of the values themselves; noise alone must not be taken for it, nor may it vanish.
        scale = max(spread - float(np.mean(np.diag(self._error))), 0.1 * spread, 1e-8)
        self._constant = _CONSTANT * scale + float(self._values.mean()) ** 2
        self._variances = self._fit(scale)
        whole = self._covariance(codes)
        whole += self._error
        self._factor = cho_factor(whole.T, lower=True, overwrite_a=True, check_finite=False)
        self._weights = cho_solve(self._factor, self._values)

    def _fit(self, scale: float) -> FloatArray:
        """The three variances of greatest posterior density; of many prompts, for some evenly chosen."""
        measured = len(self._values)
        rows = np.unique(np.linspace(0, measured - 1, min(measured, _FITTED_TO)).round().astype(np.int64))
        shared = shared_options(self._codes[rows], self._codes[rows])
        values, error = self._values[rows], self._error[np.ix_(rows, rows)]

        weights = np.tri(len(rows), dtype=np.float64, k=-1) + 0.5 * np.eye(len(rows))  # one triangle for both
        places = shared.ravel()

        def loss(logs: FloatArray) -> tuple[float, FloatArray]:
            variances = scale * np.exp(logs)
            whole = self._by_shared(variances)[shared] + error
            factor, solved, failed = dposv(whole, values, lower=True)
            inverse, failed_too = dpotri(factor, lower=True)
            if failed or failed_too:
                return math.inf, np.zeros(3)
            fit = 0.5 * float(values @ solved) + float(np.log(np.diag(factor)).sum())
            slopes = (weights * (inverse - np.outer(solved, solved))).ravel()
            by_shared = np.bincount(places, weights=slopes, minlength=self._parts.shape[1])
            gradient = variances * (self._parts @ by_shared) + logs - PRIOR
            return fit + 0.5 * float(((logs - PRIOR) ** 2).sum()), gradient

        bounds = [LIMITS] * 3
        found = minimize(loss, PRIOR, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15})
        return np.asarray(scale * np.exp(found.x), dtype=np.float64)

    def _by_shared(self, variances: FloatArray) -> FloatArray:
        """Prior covariance of two prompts by the number of options that they share, (slots + 1,)."""
        return np.asarray(self._constant + variances @ self._parts, dtype=np.float64)

    @cached_property
    def _parts(self) -> FloatArray:
        """The three correlations by the number of shared options, (3, slots + 1)."""
        slots = self._codes.shape[1]
        row_of_each = np.tri(slots + 1, slots, -1, dtype=np.int64)  # row k has k ones
        return correlations(row_of_each, np.ones((1, slots), dtype=np.int64))[:, :, 0]

    def _covariance(self, other: IntArray) -> FloatArray:
        return np.asarray(self._by_shared(self._variances)[shared_options(other, self._codes)])

    def means(self, codes: IntArray) -> FloatArray:
        """Posterior mean alone, (m,)."""
        return np.asarray(self._covariance(codes) @ self._weights)

    @property
    def fitted(self) -> FloatArray:
        """`means` of the measured prompts, (n,), from what the noise is to have added to each."""
        return np.asarray(self._values - self._error @ self._weights)

    def predict(self, codes: IntArray) -> tuple[FloatArray, FloatArray]:
        """Posterior mean and SD of the values of prompts, without the noise of images, (m,) each."""
        across = self._covariance(codes)
        mean = across @ self._weights
        prior = self._constant + float(self._variances.sum())
        root = solve_triangular(self._factor[0], across.T, lower=True, check_finite=False)
        explained = np.einsum("ij,ij->j", root, root)
        return mean, np.sqrt(np.maximum(prior - explained, 0.0))

    def covariance(self, codes: IntArray) -> FloatArray:
        """Posterior covariance of the values of prompts, (m, m)."""
        across = self._covariance(codes)
        prior = self._by_shared(self._variances)[shared_options(codes, codes)]
        root = solve_triangular(self._factor[0], across.T, lower=True, check_finite=False)
        return np.asarray(prior - root.T @ root, dtype=np.float64)

    def most_promising(self, codes: IntArray, count: int) -> IntArray:
        """Places of the `count` prompts of greatest mean + 2 SD, the greatest first; none may be measured.

        As from `predict`. The SD falls as more of the measured prompts are taken into account, and what a
        prompt has of its own is the least that it can be, so most are out before all have been.
        """
        effects = _Effects(self._codes, codes)
        if effects.count <= _FEW_EFFECTS:
            bound = self._bounds(effects)
            return np.argsort(-bound, kind="stable")[:count]
        across = self._covariance(codes)
        mean = across @ self._weights
        prior, own = self._constant + float(self._variances.sum()), float(self._variances[2])
        places = np.arange(len(codes))
        floor = -np.inf if count >= len(codes) else np.partition(mean, -count)[-count] + 2 * math.sqrt(own)
        explained = np.zeros(len(codes))
        root, across = np.empty((0, len(codes))), across.T
        factor = self._factor[0]
        for begin in range(0, len(across), _BLOCK):
            end = min(begin + _BLOCK, len(across))
            rest = across[begin:end] - factor[begin:end, :begin] @ root
            new = solve_triangular(factor[begin:end, begin:end], rest, lower=True, check_finite=False)
            explained = explained + np.einsum("ij,ij->j", new, new)
            bound = mean + 2 * np.sqrt(np.maximum(prior - explained, 0.0))
            kept = bound >= floor - 1e-9 * abs(floor)
            root = np.concatenate([root, new])[:, kept]
            places, mean, explained, bound = places[kept], mean[kept], explained[kept], bound[kept]
            across = across[:, kept]
        return places[np.argsort(-bound, kind="stable")[:count]]

    def _bounds(self, effects: _Effects) -> FloatArray:
        """Mean + 2 SD of prompts that are not measured, by way of the effects that they are sums of.

        With F and G the effects in the measured and the other prompts and V the variances of the effects,
        what the values say of a prompt is g' V F' K^-1 F V g: a sum over pairs of its effects.
        """
        variances = effects.variances(self._constant, self._variances)
        mean = effects.others @ (variances * (effects.measured.T @ self._weights))
        root = solve_triangular(
            self._factor[0],
            effects.measured.toarray(order="F"),
            lower=True,
            overwrite_b=True,
            check_finite=False,
        )
        known = (root.T @ root) * variances * variances[:, None]
        explained = np.zeros(len(mean))
        columns = effects.columns_of_others.T
        for place, column in enumerate(columns):
            row = column * len(variances)
            explained += known.ravel()[row + column]
            for other in columns[:place]:
                explained += 2 * known.ravel()[row + other]
        prior = self._constant + float(self._variances.sum())
        return np.asarray(mean + 2 * np.sqrt(np.maximum(prior - explained, 0.0)))

    @cached_property
    def _error_root(self) -> FloatArray:
        """Cholesky factor of the error, in its lower triangle alone."""
        measured = len(self._values)
        whole = self._error.copy()
        whole[np.diag_indices(measured)] += 1e-9 * max(float(np.trace(self._error)) / measured, 1e-9)
        return np.asarray(cho_factor(whole.T, lower=True, overwrite_a=True, check_finite=False)[0])

    def draws(self, others: IntArray, count: int, rng: np.random.Generator) -> FloatArray:
        """Joint draws of the values of the measured prompts, then of `others` (none of them measured).

        Matheron's rule: draws of the prior, corrected by what was measured.

        Returns:
            shape (count, n + m).
        """
        effects = _Effects(self._codes, others)
        variances = effects.variances(self._constant, self._variances)
        measured, own = len(self._values), float(self._variances[2])
        found = math.sqrt(own) * rng.standard_normal((measured + len(others), count))
        sizes = np.sqrt(variances)[:, None] * rng.standard_normal((effects.count, count))
        noise = dtrmm(1.0, self._error_root, rng.standard_normal((measured, count)), lower=1)
        seen = found[:measured] + effects.measured @ sizes + noise
        gap = cho_solve(self._factor, self._values[:, None] - seen, overwrite_b=True, check_finite=False)
        # what was measured corrects the effects, and of a measured prompt what it has of its own
        sizes += variances[:, None] * (effects.measured.T @ gap)
        found[:measured] += own * gap
        found[:measured] += effects.measured @ sizes
        found[measured:] += effects.others @ sizes
        return np.asarray(found.T, dtype=np.float64)


class _Effects:
    """The effects that a prompt's value is the sum of: the constant, its options, its pairs of options.

    Attributes:
        count: of all effects.
        measured, others: 1 where a prompt has an effect, sparse, (prompts, count).
        columns_of_others: numbers of the effects of each other prompt.
    """

    def __init__(self, measured: IntArray, others: IntArray) -> None:
        levels = np.maximum(measured.max(axis=0), others.max(axis=0, initial=0)) + 1
        self._both = list(itertools.combinations(range(len(levels)), 2))
        self._options = int(levels.sum())
        sizes = [1, *levels.tolist(), *(int(levels[i] * levels[j]) for i, j in self._both)]
        self.count = sum(sizes)
        begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])

        def columns(codes: IntArray) -> IntArray:
            pairs = [codes[:, i] * levels[j] + codes[:, j] for i, j in self._both]
            return np.asarray(np.column_stack([np.zeros(len(codes), dtype=np.int64), codes, *pairs]) + begins)

        self.columns_of_others = columns(others)
        self.measured, self.others = self._sparse(columns(measured)), self._sparse(self.columns_of_others)

    def _sparse(self, columns: IntArray) -> csr_array:
        rows, width = columns.shape
        ends = np.arange(0, rows * width + 1, width)
        return csr_array((np.ones(rows * width), columns.ravel(), ends), shape=(rows, self.count))

    def variances(self, constant: float, variances: FloatArray) -> FloatArray:
        """Of each effect, (count,)."""
        slots, pairs = len(self.columns_of_others.T) - 1 - len(self._both), len(self._both)
        of_pairs = self.count - 1 - self._options
        return np.repeat(
            [constant, variances[0] / slots, variances[1] / max(1, pairs)], [1, self._options, of_pairs]
        )


def shared_options(a: IntArray, b: IntArray) -> IntArray:
    """In how many slots two prompts have the same option, (n, m)."""
    options = np.maximum(a.max(axis=0, initial=0), b.max(axis=0, initial=0)) + 1
    begins = np.cumsum(options) - options
    chosen = []
    for codes in (a, b):
        one_hot = np.zeros((len(codes), int(options.sum())), dtype=np.float32)
        np.put_along_axis(one_hot, codes + begins, 1.0, axis=1)
        chosen.append(one_hot)
    return np.asarray((chosen[0] @ chosen[1].T).astype(np.intp))  # small whole numbers, so exact


def correlations(a: IntArray, b: IntArray) -> FloatArray:
    """Correlations by shared options, shared pairs of options, and being the same prompt, (3, n, m)."""
    slots = a.shape[1]
    same, pairs = sum_and_pairs(a[:, i, None] == b[None, :, i] for i in range(slots))
    return np.stack([same / slots, pairs, same == slots])
