"""A Gaussian model of prompts' scores: words one by one, pairs of words, the prompt itself, and image noise.

The functional analysis of variance (Sobol 1993) as a random-effects model: every slot has a variance of its
own, all pairs of slots share one, and each prompt deviates from both. What the data say about the variances
themselves is integrated over by importance sampling, since twenty prompts say little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

_FLAT = 1e2  # SDs of the flat prior of the mean, in those of the scores
_PRIOR_FREEDOM = 8.0  # degrees of freedom with which a prompt's noise is drawn to that of all
_LEAST_OWN = 0.05  # share of an image's noise that is no other image's


@dataclass(frozen=True)
class Target:
    """What is asked of the model: an option of a slot, or options of two slots together. Indices."""

    slots: tuple[int, ...]
    options: tuple[int, ...]


@dataclass(frozen=True)
class Posterior:
    """Normal distributions, one for each draw of the variances, with the draws' weights (sum 1).

    Attributes:
        means, deviations: of the targets, shape (draws, targets).
        mean, mean_deviation: of the average over all prompts of the space, shape (draws,).
        shares: of the variance between prompts, shape (draws, 3): slots, pairs, the prompt's own.
    """

    weights: FloatArray
    means: FloatArray
    deviations: FloatArray
    mean: FloatArray
    mean_deviation: FloatArray
    shares: FloatArray


def shared_noise(values: Sequence[FloatArray], codes: IntArray) -> FloatArray:
    """Covariance of the prompts' means that comes from their images, shape (prompts, prompts).

    Two prompts drawn with the same seeds err together, the more so the more words they share, and all of them
    carry the noise of the baseline's images. How much is estimated by moments over all pairs of prompts: an
    image's noise is split into what its seed does to every prompt, to every prompt with an option of its own
    (one share a slot), and to this prompt alone.

    Args:
        values: per-image differences of each prompt; each is a beginning of the same row of seeds.
        codes: option of each prompt and slot, shape (prompts, slots).
    """
    from scipy.optimize import nnls

    counts = np.array([len(v) for v in values], dtype=np.float64)
    free = np.maximum(counts - 1, 0)
    own = np.array([v.var(ddof=1) if len(v) > 1 else 0.0 for v in values])
    if not free.sum() or not own.any():
        return np.zeros((len(values), len(values)))
    pooled = float((free * own).sum() / free.sum())
    scale = np.sqrt((_PRIOR_FREEDOM * pooled + free * own) / (_PRIOR_FREEDOM + free))
    products, degrees = _covariances(values)
    i, j = np.triu_indices(len(values), 1)
    same = (codes[i] == codes[j]).astype(np.float64)
    root = np.sqrt(degrees[i, j])
    design = np.column_stack([np.ones(len(i)), same]) * root[:, None]
    parts, _ = nnls(design, products[i, j] / (scale[i] * scale[j]) * root)
    parts *= min(1.0, (1 - _LEAST_OWN) / parts.sum()) if parts.sum() else 1.0
    correlation = parts[0] + sum(
        part * (codes[:, None, s] == codes[None, :, s]) for s, part in enumerate(parts[1:])
    )
    correlation = correlation + (1 - parts.sum()) * np.eye(len(values))
    # means over beginnings of one row of seeds: cov = variance / the larger number of images
    return correlation * scale[:, None] * scale / np.maximum(counts[:, None], counts)


def _covariances(values: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Sample covariance per image of each two prompts over their common seeds, and its degrees of freedom."""
    counts = np.array([len(v) for v in values])
    found = np.zeros((len(values), len(values)))
    shorter = np.minimum(counts[:, None], counts)
    for length in np.unique(counts):
        if length < 2:
            continue
        rows = np.flatnonzero(counts >= length)
        block = np.stack([values[row][:length] for row in rows])
        block = block - block.mean(axis=1, keepdims=True)
        inside = np.ix_(rows, rows)
        found[inside] = np.where(shorter[inside] == length, block @ block.T / (length - 1), found[inside])
    return found, np.maximum(shorter - 1, 0).astype(np.float64)


class AnovaModel:
    """The model of one set of prompts.

    Args:
        scores: means of the prompts, shape (prompts,), not all equal.
        codes: option index of each prompt and slot, shape (prompts, slots).
        options: number of options of each slot, 2 or more.
        noise: `shared_noise` of the prompts.
    """

    def __init__(
        self, scores: FloatArray, codes: IntArray, options: Sequence[int], noise: FloatArray
    ) -> None:
        self._centre = float(scores.mean())
        self._scale = float(scores.std())
        self._y = (scores - self._centre) / self._scale
        self._codes, self._options = codes, tuple(options)
        n = len(scores)
        self._base = noise / self._scale**2 + _FLAT**2
        slots = [_kernel(codes[:, s, None], codes[None, :, s], m) for s, m in enumerate(options)]
        total, squares = sum(slots), sum(k**2 for k in slots)
        self._pairs = len(options) * (len(options) - 1) // 2
        # the sum of k_s k_t over the pairs of slots, by Newton's identity
        pair = (total**2 - squares) / 2 / self._pairs if self._pairs else np.zeros((n, n))
        self._kernels = np.stack([*slots, pair, np.eye(n)])

    def posterior(self, targets: Sequence[Target], *, draws: int, seed: int) -> Posterior:
        """What the scores say about the targets; `draws` sets of variances from a generator of `seed`."""
        logs, weights = self._draws(draws, np.random.default_rng(seed))
        columns: list[Any] = []
        for log in logs:
            columns.append(self._given(np.exp(log), targets))
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
            mean * self._scale + self._centre,
            mean_deviation * self._scale,
            parts / parts.sum(axis=1, keepdims=True),
        )

    def _covariance(self, variances: FloatArray) -> FloatArray:
        found: FloatArray = self._base + np.tensordot(variances, self._kernels, axes=1)
        found[np.diag_indices_from(found)] += 1e-9
        return found

    def _log_density(self, log: FloatArray) -> tuple[float, FloatArray]:
        """Log posterior of the log variances, up to a constant, and its gradient.

        Every SD has a half-t prior with 3 degrees of freedom and the SD of the scores as its scale.
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
        prior = float(np.sum(0.5 * log - 2 * np.log1p(variances / 3)))
        return value + prior, gradient + 0.5 - 2 * (variances / 3) / (1 + variances / 3)

    def _information(self, log: FloatArray) -> FloatArray:
        """Expected curvature of the log density."""
        variances = np.exp(log)
        inverse = np.linalg.inv(self._covariance(variances))
        scaled = np.stack([inverse @ (v * k) for v, k in zip(variances, self._kernels, strict=True)])
        found: FloatArray = 0.5 * np.einsum("aij,bji->ab", scaled, scaled, optimize=True)
        ratio = variances / 3
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
        logs = np.clip(best + (normal * stretch[:, None]) @ root.T, -30.0, 8.0)
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
        prior = float(np.sum(0.5 * log - 2 * np.log1p(variances / 3)))
        return -0.5 * float(solved @ solved) - float(np.log(np.diag(factor)).sum()) + prior

    def _given(
        self, variances: FloatArray, targets: Sequence[Target]
    ) -> tuple[FloatArray, FloatArray, float, float]:
        """Means and SDs of the targets, and of the average prompt, under one set of variances."""
        from scipy.linalg import solve_triangular

        factor = np.linalg.cholesky(self._covariance(variances))
        rows = [self._row(variances, target) for target in targets]
        cross = np.array([row for row, _ in rows]).reshape(len(rows), len(self._y))
        prior = np.array([value for _, value in rows])
        both = np.vstack([cross, np.full(len(self._y), _FLAT**2), self._y])
        solved = solve_triangular(factor, both.T, lower=True, check_finite=False)
        y = solved[:, -1]
        means = solved[:, :-1].T @ y
        left = np.append(prior, _FLAT**2) - (solved[:, :-1] ** 2).sum(axis=0)
        deviations = np.sqrt(np.maximum(left, 0.0))
        return means[:-1], deviations[:-1], float(means[-1]), float(deviations[-1])

    def _row(self, variances: FloatArray, target: Target) -> tuple[FloatArray, float]:
        """Prior covariance of a target with every prompt, and its variance."""
        row, own = np.ones(len(self._y)), 1.0
        for slot, option in zip(target.slots, target.options, strict=True):
            row = row * _kernel(np.int64(option), self._codes[:, slot], self._options[slot])
        if len(target.slots) == 1:
            own = float(variances[target.slots[0]])
        else:
            own = float(variances[len(self._options)]) / self._pairs
        return row * own, own


def _kernel(a: Any, b: Any, options: int) -> FloatArray:
    """Prior correlation of two options' effects when the effects of a slot sum to 0."""
    found: FloatArray = np.where(np.equal(a, b), 1.0, -1.0 / (options - 1))
    return found
