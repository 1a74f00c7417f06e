"""The witness function of MMD: what an image adds to the distance of a mixture of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features, check_pair
from evaluation.influence._checks import (
    InfluenceError,
    Matrix,
    Vector,
    check_labels,
    check_weights,
    check_width,
)
from evaluation.metrics.mmd import check_bandwidth, gaussian_kernel, median_bandwidth

BLOCK = 1024
"""Images whose kernel values are held at a time."""


@dataclass(frozen=True, eq=False)
class Witness:
    """The witness of a mixture w of k prompts against real images (Gretton et al. 2012)::

        g(x) = sum_i w_i mean_{y of prompt i} k(x, y) - mean_r k(x, r),    k(x, y) = exp(-|x - y|^2 / (2 b^2))

    MMD^2(w) is convex, and its derivative towards a prompt is ``2 (mean g over its images - mean g over the
    mixture)``: the prompt with the lowest mean witness is the next step of Frank-Wolfe, or of kernel herding
    (Bach, Lacoste-Julien and Obozinski 2012). Lower is better; negative where the mixture has too few images.

    Images of one seed resemble each other and an image resembles itself most. An image with a seed is
    therefore compared only with images of other seeds, which makes its witness unbiased.

    Attributes:
        weights: shape (k,), of the prompts, sum 1.
        bandwidth: of the kernel, in feature units.
        own: for each prompt the witness of its images, shape (n_i,), each without images of its seed.
        mmd: unbiased estimate of MMD^2 of the mixture for weights fixed beforehand; at times negative.

    Example:
        >>> real = [[0.0], [1.0], [2.0], [3.0]]
        >>> witness = Witness.fit([[[0.0], [1.0], [0.5]]], real, bandwidth=1.0)
        >>> near, far = witness.values([[0.5], [2.5]])
        >>> bool(far < 0 < near)  # the mixture has too few images around 2.5
        True
    """

    weights: Vector
    bandwidth: float
    own: tuple[Vector, ...] = field(repr=False)
    mmd: float
    _rows: Matrix = field(repr=False)
    _seeds: NDArray[Any] = field(repr=False)
    _prompts: Matrix = field(repr=False)
    _reference: Matrix = field(repr=False)

    @classmethod
    def fit(
        cls,
        prompts: Sequence[ArrayLike],
        reference: ArrayLike,
        *,
        weights: ArrayLike | None = None,
        seeds: Sequence[ArrayLike] | None = None,
        bandwidth: float | None = None,
    ) -> Witness:
        """Of the mixture of `prompts`.

        Args:
            prompts: features of each prompt's images, shape (n_i, d), two rows or more each.
            reference: features of the real images, shape (m, d), two rows or more.
            weights: shape (k,), from 0 on, scaled to sum to 1; equal ones if None.
            seeds: each prompt's seeds, (n_i,), none twice; if None, row s of every prompt is of seed s. Of
                images drawn independently of each other no two have a common seed.
            bandwidth: of the kernel, above 0; `median_bandwidth` of the reference if None.

        Raises:
            ValueError: wrong shapes, a feature that is not finite, too few rows, weights or seeds that do not
                fit, a bandwidth not above 0, or (InfluenceError) a prompt all of whose images have one seed.
        """
        if not prompts:
            raise InfluenceError("there is no prompt; a mixture needs one or more", key="prompts")
        real = check_features(reference, "reference")
        parts = [
            check_pair(own, real, names=(f"prompts[{i}]", "reference"))[0] for i, own in enumerate(prompts)
        ]
        for i, rows in enumerate(parts):
            if len(rows) < 2:
                raise InfluenceError(f"has {len(rows)} images; two or more are needed", key=f"prompts[{i}]")
        if len(real) < 2:
            raise InfluenceError(f"has {len(real)} images; two or more are needed", key="reference")
        shares = check_weights(weights, len(parts), of="prompts")
        own_seeds = _check_seeds(seeds, [len(own) for own in parts])
        width = median_bandwidth(real) if bandwidth is None else check_bandwidth(bandwidth)
        sizes = [len(own) for own in parts]
        member = np.repeat(np.eye(len(parts)), sizes, axis=0)
        state = (shares, width)
        sample = (np.concatenate(parts), np.concatenate(own_seeds), member, real)
        bare = cls(*state, (), 0.0, *sample)
        own = tuple(bare.values(rows, seeds=ids) for rows, ids in zip(parts, own_seeds, strict=True))
        # w'Kw - 2 w'm + c = sum_i w_i mean g_i - w'm + c
        across = np.array([bare._to_reference(rows).mean() for rows in parts])
        m = len(real)
        among = (float(np.sum(bare._to_reference(real))) * m - m) / (m * (m - 1))
        value = float(shares @ [values.mean() for values in own] - shares @ across) + among
        return cls(*state, own, value, *sample)

    @property
    def mean(self) -> float:
        """Mean witness of the mixture itself: what a prompt must stay below to be worth adding."""
        return float(self.weights @ [values.mean() for values in self.own])

    def values(self, features: ArrayLike, *, seeds: ArrayLike | None = None) -> Vector:
        """The witness of each image, shape (n,), each between -1 and 1; lower is better.

        Args:
            features: shape (n, d).
            seeds: shape (n,), of the images; images of the mixture with the same seed are left out of the
                mean. None: the images share no seed with the mixture, nor belong to it.

        Raises:
            ValueError: wrong shapes or features, or (InfluenceError) a seed without which a prompt of the
                mixture has no image left.
        """
        rows = check_width(check_features(features, "features"), self._rows.shape[1])
        ids = None if seeds is None else check_labels(seeds, len(rows), "seeds")
        values = np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            gram = self._kernel(rows[block], self._rows)
            if ids is None:
                means = gram @ (self._prompts / self._prompts.sum(axis=0))
            else:
                kept = (ids[block, None] != self._seeds[None, :]).astype(np.float64)
                counts = kept @ self._prompts
                alone = np.argwhere(counts == 0)
                if len(alone):
                    image, prompt = alone[0]
                    raise InfluenceError(
                        f"without seed {ids[start + image]} prompt {prompt} of the mixture has no image left",
                        key="seeds",
                        remedy="Give the prompts images of two seeds or more.",
                    )
                means = (gram * kept) @ self._prompts / counts
            values[block] = means @ self.weights
        return values - self._to_reference(rows)

    def gap(self, values: ArrayLike) -> float:
        """The derivative of MMD^2 towards a prompt with these witness values, negated: above 0, it helps.

        The largest over all prompts bounds how far the mixture is from the best one (Frank-Wolfe gap).

        Args:
            values: shape (n,), from `values`.
        """
        return 2 * (self.mean - float(np.mean(np.asarray(values, dtype=np.float64))))

    def _to_reference(self, rows: Matrix) -> Vector:
        means = [
            self._kernel(rows[start : start + BLOCK], self._reference).mean(axis=1)
            for start in range(0, len(rows), BLOCK)
        ]
        return np.concatenate(means) if means else np.empty(0)

    def _kernel(self, a: Matrix, b: Matrix) -> Matrix:
        # near the origin the distances lose nothing to cancellation
        center = self._reference.mean(axis=0)
        return gaussian_kernel(self.bandwidth)(a - center, b - center)


def _check_seeds(seeds: Sequence[ArrayLike] | None, sizes: list[int]) -> list[NDArray[Any]]:
    if seeds is None:
        return [np.arange(size) for size in sizes]
    if len(seeds) != len(sizes):
        raise InfluenceError(f"seeds of {len(seeds)} prompts for {len(sizes)} prompts", key="seeds")
    found = [
        check_labels(own, size, f"seeds[{i}]") for i, (own, size) in enumerate(zip(seeds, sizes, strict=True))
    ]
    for i, own in enumerate(found):
        if len(np.unique(own)) < len(own):
            raise InfluenceError("holds a seed twice", key=f"seeds[{i}]", remedy="Give each image once.")
    return found
