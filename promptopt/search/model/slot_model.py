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

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from promptopt.search.model.kernel import sum_and_pairs
from promptopt.search.model.noise import FloatArray, IntArray, means_with_noise

PRIOR = np.log([0.6, 0.4, 0.2])  # expected shares of options, pairs and the prompt's own; one unit wide
LIMITS = (-6.0, 4.0)  # of the logarithms of the three
_FITTED_TO = 256
"""Most prompts that the variances are fitted to: three numbers need no more, and each try costs n^3."""
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
        self._factor = cho_factor(self._covariance(codes) + self._error, lower=True)
        self._weights = cho_solve(self._factor, self._values)

    def _fit(self, scale: float) -> FloatArray:
        """The three variances of greatest posterior density; of many prompts, for some evenly chosen."""
        measured = len(self._values)
        rows = np.unique(np.linspace(0, measured - 1, min(measured, _FITTED_TO)).round().astype(np.int64))
        parts = correlations(self._codes[rows], self._codes[rows])
        values, error = self._values[rows], self._error[np.ix_(rows, rows)]

        def loss(logs: FloatArray) -> float:
            variances = scale * np.exp(logs)
            whole = self._constant + np.tensordot(variances, parts, axes=1) + error
            factor, lower = cho_factor(whole, lower=True)
            fit = 0.5 * float(values @ cho_solve((factor, lower), values))
            fit += float(np.log(np.diag(factor)).sum())
            return fit + 0.5 * float(((logs - PRIOR) ** 2).sum())

        found = minimize(loss, PRIOR, method="L-BFGS-B", bounds=[LIMITS] * 3, options={"maxiter": 15})
        return np.asarray(scale * np.exp(found.x), dtype=np.float64)

    def _covariance(self, other: IntArray) -> FloatArray:
        parts = correlations(other, self._codes)
        return np.asarray(self._constant + np.tensordot(self._variances, parts, axes=1), dtype=np.float64)

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
        prior = self._constant + np.tensordot(self._variances, correlations(codes, codes), axes=1)
        return np.asarray(prior - across @ cho_solve(self._factor, across.T), dtype=np.float64)

    def draws(self, others: IntArray, count: int, rng: np.random.Generator) -> FloatArray:
        """Joint draws of the values of the measured prompts, then of `others` (none of them measured).

        Matheron's rule: draws of the prior, corrected by what was measured.

        Returns:
            shape (count, n + m).
        """
        codes = np.concatenate([self._codes, others]) if len(others) else self._codes
        options, pairs, own = np.sqrt(self._variances)
        prompts, slots = codes.shape
        # prompts first, so that effects are gathered row by row
        found = own * rng.standard_normal((prompts, count))
        found += math.sqrt(self._constant) * rng.standard_normal((1, count))
        levels = codes.max(axis=0) + 1
        for i in range(slots):
            found += options / math.sqrt(slots) * rng.standard_normal((levels[i], count))[codes[:, i]]
        both = list(itertools.combinations(range(slots), 2))
        for i, j in both:
            effects = pairs / math.sqrt(len(both)) * rng.standard_normal((levels[i] * levels[j], count))
            found += effects[codes[:, i] * levels[j] + codes[:, j]]
        measured = len(self._values)
        jitter = 1e-9 * max(float(np.trace(self._error)) / measured, 1e-9)
        root = np.linalg.cholesky(self._error + jitter * np.eye(measured))
        seen = found[:measured] + root @ rng.standard_normal((measured, count))
        gap = cho_solve(self._factor, self._values[:, None] - seen)
        return np.asarray((found + self._covariance(codes) @ gap).T, dtype=np.float64)


def correlations(a: IntArray, b: IntArray) -> FloatArray:
    """Correlations by shared options, shared pairs of options, and being the same prompt, (3, n, m)."""
    slots = a.shape[1]
    same, pairs = sum_and_pairs(a[:, i, None] == b[None, :, i] for i in range(slots))
    return np.stack([same / slots, pairs, same == slots])
