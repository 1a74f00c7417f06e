"""What images say of prompts that share seeds: means, and how their errors go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

    B_k is 1 on R_k itself, so that only what these say of the others is to be computed. All terms have few
    parts that are shared, so that the covariance is one product.

    Args:
        values: per-image differences of each prompt; each is a beginning of the same row of seeds.
        codes: option of each prompt and slot, shape (prompts, slots).
    """
    panel = Panel.of(values)
    noise = _image_noise(panel, codes)
    counts, table = panel.counts, panel.table
    if noise is None:
        return table.sum(axis=1) / counts, np.zeros((len(values), len(values)))
    least, *more = np.unique(counts).tolist()
    means = table[:, :least].mean(axis=1)
    most = max([least, *more])
    own, shared = noise.own / most, [noise.shared / np.sqrt(most)]
    begin = least
    for end in more:  # seeds that the same prompts were drawn with
        rows, others = np.flatnonzero(counts >= end), np.flatnonzero(counts < end)
        longer = table[rows, :end]
        further = longer.mean(axis=1) - longer[:, :begin].mean(axis=1)
        change, left = noise.given(rows, further, others)
        means[rows] += further
        means[others] += change
        weight = 1 / begin - 1 / end
        own[others] += weight * noise.own[others]
        part = np.zeros((len(values), left.shape[1]))
        part[others] = np.sqrt(weight) * left
        shared.append(part)
        begin = end
    return means, ImageNoise(own, np.concatenate(shared, axis=1)).covariance()


@dataclass(frozen=True)
class Panel:
    """Per-image scores of prompts, each a beginning of the same row of seeds.

    Attributes:
        counts: how many each has, shape (n,).
        table: the scores, with 0 behind them, shape (n, most).
    """

    counts: IntArray
    table: FloatArray

    @classmethod
    def of(cls, values: Sequence[FloatArray]) -> Panel:
        counts = np.array([len(v) for v in values])
        table = np.zeros((len(values), int(counts.max())))
        for row, own in zip(table, values, strict=True):
            row[: len(own)] = own
        return cls(counts, table)


@dataclass(frozen=True)
class ImageNoise:
    """Covariance S of the noise of the prompts' images with one seed: each one's own and few shared parts.

    S = diag(own) + shared shared'. That makes B_k and its product with S (see `means_with_noise`) cheap: by
    the Woodbury identity they ask for an inverse of the size of the shared parts alone.

    Attributes:
        own: variances above 0, shape (n,).
        shared: shape (n, parts).
    """

    own: FloatArray
    shared: FloatArray

    def covariance(self) -> FloatArray:
        """S, (n, n)."""
        found: FloatArray = self.shared @ self.shared.T
        found[np.diag_indices_from(found)] += self.own
        return found

    def given(self, rows: IntArray, values: FloatArray, others: IntArray) -> tuple[FloatArray, FloatArray]:
        """B `values` of the other prompts, and F with S - B S[rows] = diag(own) + F F' for them."""
        shared, away = self.shared[rows], self.shared[others]
        weighted = (shared / self.own[rows, None]).T
        root = np.linalg.cholesky(np.eye(shared.shape[1]) + weighted @ shared)
        solved = solve_triangular(root, weighted @ values, lower=True, check_finite=False)
        left = solve_triangular(root, away.T, lower=True, check_finite=False).T
        return left @ solved, left


def _image_noise(panel: Panel, codes: IntArray) -> ImageNoise | None:
    """The noise of the prompts' images; None when they show none.

    The shares of an image's noise are least squares over all pairs of prompts, each as often as its degrees
    of freedom, by normal equations. Their sums over pairs are sums over the prompts of each option, or of
    each two options, so that no pair is looked at.
    """
    from scipy.optimize import nnls

    counts = panel.counts
    free, own = counts - 1.0, np.zeros(len(counts))
    for length in np.unique(counts[counts > 1]).tolist():
        rows = np.flatnonzero(counts == length)
        own[rows] = panel.table[rows, :length].var(axis=1, ddof=1)
    if not own.any():
        return None
    pooled = float((free * own).sum() / free.sum())
    scale = np.sqrt((_PRIOR_FREEDOM * pooled + free * own) / (_PRIOR_FREEDOM + free))
    groups = np.column_stack([np.zeros(len(codes), dtype=np.int64), codes])
    members, begins = _members(groups)
    system, side = _normal_equations(panel, scale, members, begins)
    eigenvalues, vectors = np.linalg.eigh(system)
    root = np.sqrt(np.maximum(eigenvalues, 1e-12 * max(float(eigenvalues[-1]), 1e-12)))
    parts, _ = nnls(root[:, None] * vectors.T, (vectors.T @ side) / root)
    parts /= max(1.0, parts.sum() / (1 - _LEAST_OWN))
    sizes = np.diff([*begins, members.shape[1]])
    shared = members * np.sqrt(np.repeat(parts, sizes))
    return ImageNoise((1 - parts.sum()) * scale**2, scale[:, None] * shared)


def _normal_equations(
    panel: Panel, scale: FloatArray, members: FloatArray, begins: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Left and right side, over ordered pairs of different prompts that share two seeds or more.

    A pair counts as often as its shared seeds less 1; "same" are the shares of which two have the same group.

    Args:
        members, begins: from `_members`.
    """
    counts = panel.counts
    system, side = np.zeros((len(begins), len(begins))), np.zeros(len(begins))
    before = 1
    for length in np.unique(counts[counts > 1]).tolist():
        rows = np.flatnonzero(counts >= length)
        own = members[rows]
        # each pair of these prompts has so many more degrees of freedom than it had
        both = np.add.reduceat(np.add.reduceat((own.T @ own) ** 2, begins, axis=0), begins, axis=1)
        system += (length - before) * (both - len(rows))
        before = length
        block = panel.table[rows, :length]
        block = (block - block.mean(axis=1, keepdims=True)) / scale[rows, None]
        # pairs that share just so many seeds: all, but those of which both have more
        longer = counts[rows] > length
        side += _products(block, own, begins) - _products(block[longer], own[longer], begins)
    return system, side


def _products(block: FloatArray, members: FloatArray, begins: IntArray) -> FloatArray:
    """Sum of the products of rows over ordered pairs of different rows of one group, for each share."""
    sums = ((members.T @ block) ** 2).sum(axis=1)
    return np.asarray(np.add.reduceat(sums, begins) - float((block**2).sum()))


def _members(groups: IntArray) -> tuple[FloatArray, IntArray]:
    """1 where a prompt is in a group, (n, groups of all shares), and where each share's groups begin.

    Args:
        groups: number of the group of each prompt, one column a share, shape (n, shares).
    """
    sizes = groups.max(axis=0) + 1
    columns = [column[:, None] == np.arange(size) for column, size in zip(groups.T, sizes, strict=True)]
    return np.concatenate(columns, axis=1).astype(np.float64), np.cumsum(sizes) - sizes
