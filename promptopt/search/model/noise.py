"""What images say of prompts that share seeds: means, and how their errors go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

_PRIOR_FREEDOM = 8.0  # degrees of freedom with which a prompt's noise is drawn to that of all
_LEAST_OWN = 0.05  # share of an image's noise that is no other image's


def means_with_noise(values: Sequence[FloatArray], codes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Means of the prompts, shape (prompts,), and the covariance of their noise, (prompts, prompts).

    Two prompts drawn with the same seeds err together, the more so the more words they share, and all of them
    carry the noise of the baseline's images. How much is estimated by moments over all pairs of prompts: an
    image's noise is split into what its seed does to every prompt, to every prompt with an option of its own
    (one share a slot), and to this prompt alone.

    Where prompts have different numbers of images, the means are those of generalized least squares: what the
    further seeds do to all prompts is known from those that were drawn with them. Plain means would be biased
    by the race, which goes on with a prompt or not for what the first seeds gave. As the seeds of a prompt
    with fewer images are the first of one with more, both have a closed form (Anderson 1957: monotone missing
    data): with c_1 < c_2 < ... the numbers of images, R_k the prompts with c_k or more, S the covariance of
    an image's noise, B_k = S[:, R_k] S[R_k, R_k]^-1 and m_c means over the first c seeds,

        means = m_c1 + sum_k>1 B_k (m_ck - m_c(k-1))[R_k]
        covariance = S / c_1 - sum_k>1 (1 / c_(k-1) - 1 / c_k) B_k S[R_k, :]

    Args:
        values: per-image differences of each prompt; each is a beginning of the same row of seeds.
        codes: option of each prompt and slot, shape (prompts, slots).
    """
    image = _image_noise(values, codes)
    if image is None:
        return np.array([v.mean() for v in values]), np.zeros((len(values), len(values)))
    counts = np.array([len(v) for v in values])
    least, *more = np.unique(counts).tolist()
    means = np.stack([v[:least] for v in values]).mean(axis=1)
    covariance = image / least
    begin = least
    for end in more:  # seeds that the same prompts were drawn with
        rows = np.flatnonzero(counts >= end)
        root = np.linalg.cholesky(image[np.ix_(rows, rows)])
        known = solve_triangular(root, image[rows], lower=True, check_finite=False)
        longer = np.stack([v[:end] for v in values if len(v) >= end])
        further = longer.mean(axis=1) - longer[:, :begin].mean(axis=1)
        means += known.T @ solve_triangular(root, further, lower=True, check_finite=False)
        covariance -= (1 / begin - 1 / end) * (known.T @ known)
        begin = end
    return means, covariance


def _image_noise(values: Sequence[FloatArray], codes: IntArray) -> FloatArray | None:
    """Covariance of the noise of the prompts' images with the same seed; None when they show no noise."""
    from scipy.optimize import nnls

    counts = np.array([len(v) for v in values])
    free, own = counts - 1.0, np.zeros(len(values))
    for length in np.unique(counts[counts > 1]):
        rows = np.flatnonzero(counts == length)
        own[rows] = np.stack([v for v in values if len(v) == length]).var(axis=1, ddof=1)
    if not own.any():
        return None
    pooled = float((free * own).sum() / free.sum())
    scale = np.sqrt((_PRIOR_FREEDOM * pooled + free * own) / (_PRIOR_FREEDOM + free))
    products, degrees = _covariances(values)
    # Least squares over all pairs of prompts, each as often as its degrees of freedom: by normal equations,
    # as there are many pairs and few slots.
    np.fill_diagonal(degrees, 0.0)  # a prompt's own variance is no pair
    same = np.stack(
        [np.ones_like(degrees), *(codes[:, None, s] == codes[None, :, s] for s in range(codes.shape[1]))]
    )
    flat = same.reshape(len(same), -1)
    weighted = flat * degrees.ravel()
    eigenvalues, vectors = np.linalg.eigh(weighted @ flat.T)
    root = np.sqrt(np.maximum(eigenvalues, 1e-12 * max(float(eigenvalues[-1]), 1e-12)))
    side = weighted @ (products / (scale[:, None] * scale)).ravel()
    parts, _ = nnls(root[:, None] * vectors.T, (vectors.T @ side) / root)
    parts /= max(1.0, parts.sum() / (1 - _LEAST_OWN))
    correlation = np.tensordot(parts, same, axes=1)
    correlation += (1 - parts.sum()) * np.eye(len(values))
    return np.asarray(correlation * scale[:, None] * scale)


def _covariances(values: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Sample covariance per image of each two prompts over their common seeds, and its degrees of freedom."""
    counts = np.array([len(v) for v in values])
    found = np.zeros((len(values), len(values)))
    shorter = np.minimum(counts[:, None], counts)
    for length in np.unique(counts):
        if length < 2:
            continue
        rows = np.flatnonzero(counts >= length)
        block = np.stack([v[:length] for v in values if len(v) >= length])
        block = block - block.mean(axis=1, keepdims=True)
        inside = np.ix_(rows, rows)
        found[inside] = np.where(shorter[inside] == length, block @ block.T / (length - 1), found[inside])
    return found, np.maximum(shorter - 1, 0).astype(np.float64)
