"""A Gaussian model of prompts' scores: words one by one, pairs of words, the prompt itself, and image noise.

The functional analysis of variance (Sobol 1993) as a random-effects model: every slot has a variance of its
own, all pairs of slots share one, and each prompt deviates from both. What the data say about the variances
themselves is integrated over by importance sampling, since twenty prompts say little. The kernel and every
symbol stand in `promptopt.search.model.kernel`; here effects of a slot sum to 0, and v has S + 2 entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptopt.search.model.kernel import slot_kernel, sum_and_pairs
from promptopt.search.model.noise import FloatArray, IntArray

_FLAT = 1e2  # SDs of the flat prior of the mean, in those of the scores
_LEAST_VARIANCE = 1e-7  # of a score about what the model says, so that matrices stay well conditioned


@dataclass(frozen=True)
class Target:
    """What is asked of the model: an option of a slot, or options of two slots together. Indices."""

    slots: tuple[int, ...]
    options: tuple[int, ...]


@dataclass(frozen=True)
class Posterior:
    """Normal distributions, one for each draw of the variances, with the draws' weights (sum 1).

    Attributes:
        means, deviations: of the targets, shape (draws, targets). A slot's option is shrunk toward 0 by its
            slot's variance; a pair is not shrunk, and is taken as one that stands out from the other pairs.
        mean, mean_deviation: of the average over all prompts of the space, shape (draws,).
        shares: of the variance between prompts, shape (draws, 3): slots, pairs, the prompt's own.
    """

    weights: FloatArray
    means: FloatArray
    deviations: FloatArray
    mean: FloatArray
    mean_deviation: FloatArray
    shares: FloatArray


class AnovaModel:
    """The model of one set of prompts.

    Args:
        scores: means of the prompts, shape (prompts,), not all equal.
        codes: option index of each prompt and slot, shape (prompts, slots).
        options: number of options of each slot, 2 or more.
        noise: covariance of the scores' noise, from `means_with_noise`.
    """

    def __init__(
        self, scores: FloatArray, codes: IntArray, options: Sequence[int], noise: FloatArray
    ) -> None:
        self._center = float(scores.mean())
        self._scale = float(scores.std())
        self._y = (scores - self._center) / self._scale
        self._codes, self._options = codes, tuple(options)
        n = len(scores)
        self._base = noise / self._scale**2 + _FLAT**2
        slots = [slot_kernel(codes[:, s, None], codes[None, :, s], options=m) for s, m in enumerate(options)]
        self._pairs = len(options) * (len(options) - 1) // 2
        pair = sum_and_pairs(slots)[1] if slots else np.zeros((n, n))
        self._kernels = np.stack([*slots, pair, np.eye(n)])
        # prior scales: as much for all slots together as for the pairs, and as for the prompt by itself
        self._prior = np.array([1 / len(options)] * len(options) + [1.0, 1.0])

    def posterior(self, targets: Sequence[Target], *, draws: int, seed: int) -> Posterior:
        """What the scores say about the targets; `draws` sets of variances from a generator of `seed`."""
        logs, weights = self._draws(draws, np.random.default_rng(seed))
        # prior correlation of each target with each prompt, and which variance it has
        rows = np.array([self._row(target) for target in targets]).reshape(len(targets), len(self._y))
        places = np.array([t.slots[0] if len(t.slots) == 1 else -1 for t in targets], dtype=np.int64)
        columns = [self._given(np.exp(log), rows, places) for log in logs]
        means, deviations, mean, mean_deviation = (np.array(column) for column in zip(*columns, strict=True))
        size = len(self._options)
        variances = np.exp(logs)
        parts = np.column_stack([variances[:, :size].sum(axis=1), variances[:, size:]])
        if not self._pairs:
            parts[:, 1] = 0.0
        return Posterior(
            weights,
            means * self._scale,
            deviations * self._scale,
            mean * self._scale + self._center,
            mean_deviation * self._scale,
            parts / parts.sum(axis=1, keepdims=True),
        )

    def _covariance(self, variances: FloatArray) -> FloatArray:
        found: FloatArray = self._base + np.tensordot(variances, self._kernels, axes=1)
        found[np.diag_indices_from(found)] += _LEAST_VARIANCE
        return found

    def _log_density(self, log: FloatArray) -> tuple[float, FloatArray]:
        """Log posterior of the log variances, up to a constant, and its gradient.

        The SDs have half-t priors with 3 degrees of freedom, about as wide as the scores' own SD.
        """
        from scipy.linalg import cho_factor, cho_solve

        variances = np.exp(log)
        factor = cho_factor(self._covariance(variances), lower=True)
        inverse = cho_solve(factor, np.eye(len(self._y)))
        solved = inverse @ self._y
        value = -0.5 * float(self._y @ solved) - float(np.log(np.diag(factor[0])).sum())
        quadratic = np.einsum("i,kij,j->k", solved, self._kernels, solved, optimize=True)
        traces = np.tensordot(self._kernels, inverse, axes=([1, 2], [0, 1]))
        gradient = 0.5 * variances * (quadratic - traces)
        ratio = variances / (3 * self._prior)
        return value + self._log_prior(log), gradient + 0.5 - 2 * ratio / (1 + ratio)

    def _log_prior(self, log: FloatArray) -> float:
        return float(np.sum(0.5 * log - 2 * np.log1p(np.exp(log) / (3 * self._prior))))

    def _information(self, log: FloatArray) -> FloatArray:
        """Expected curvature of the log density."""
        variances = np.exp(log)
        inverse = np.linalg.inv(self._covariance(variances))
        scaled = np.stack([inverse @ (v * k) for v, k in zip(variances, self._kernels, strict=True)])
        found: FloatArray = 0.5 * np.einsum("aij,bji->ab", scaled, scaled, optimize=True)
        ratio = variances / (3 * self._prior)
        found[np.diag_indices_from(found)] += 2 * ratio / (1 + ratio) ** 2 + 0.05
        return found

    def _draws(self, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Log variances about the most likely ones, Student t with 5 degrees of freedom, and weights."""
        from scipy.optimize import minimize

        size = len(self._kernels)
        start = np.full(size, -np.log(size))

        def loss(log: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self._log_density(log)
            return -value, -gradient

        best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-12.0, 5.0)] * size).x
        root = np.linalg.cholesky(np.linalg.inv(self._information(best)))
        freedom = 5.0
        normal = rng.standard_normal((count, size))
        stretch = np.sqrt(freedom / rng.chisquare(freedom, count))
        logs = np.clip(best + (normal * stretch[:, None]) @ root.T, -20.0, 8.0)
        distance = ((normal * stretch[:, None]) ** 2).sum(axis=1)
        proposed = -0.5 * (freedom + size) * np.log1p(distance / freedom)
        log_weights = np.array([self._log_value(log) for log in logs]) - proposed
        weights = np.exp(log_weights - log_weights.max())
        # truncated (Ionides 2008): the bias is small, and no draw speaks for all
        weights = np.minimum(weights, weights.mean() * np.sqrt(count))
        return logs, weights / weights.sum()

    def _log_value(self, log: FloatArray) -> float:
        variances = np.exp(log)
        factor = np.linalg.cholesky(self._covariance(variances))
        from scipy.linalg import solve_triangular

        solved = solve_triangular(factor, self._y, lower=True, check_finite=False)
        return -0.5 * float(solved @ solved) - float(np.log(np.diag(factor)).sum()) + self._log_prior(log)

    def _given(
        self, variances: FloatArray, rows: FloatArray, places: IntArray
    ) -> tuple[FloatArray, FloatArray, float, float]:
        """Means and SDs of the targets, and of the average prompt, under one set of variances."""
        from scipy.linalg import solve_triangular

        factor = np.linalg.cholesky(self._covariance(variances))
        both = np.vstack([rows, np.full(len(self._y), _FLAT**2), self._y])
        solved = solve_triangular(factor, both.T, lower=True, check_finite=False)
        products = solved[:, :-1].T @ solved[:, -1]
        known = (solved[:, :-1] ** 2).sum(axis=0)
        # a shrunken option: its share of the slot's variance that the scores leave open
        prior = variances[places]
        left = prior - prior**2 * known[:-1]
        # a free pair: least squares, weighted by all that the model leaves open
        free = np.maximum(known[:-1], 1e-12)
        single = places >= 0
        means = np.where(single, prior * products[:-1], products[:-1] / free)
        deviations = np.sqrt(np.where(single, np.maximum(left, 0.0), 1 / free))
        average = float(products[-1]), float(np.sqrt(max(_FLAT**2 - known[-1], 0.0)))
        return means, deviations, *average

    def _row(self, target: Target) -> FloatArray:
        row = np.ones(len(self._y))
        for slot, option in zip(target.slots, target.options, strict=True):
            row *= slot_kernel(option, self._codes[:, slot], options=self._options[slot])
        return row
