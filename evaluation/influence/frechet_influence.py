"""What an image adds to the Fréchet distance of a weighted set of generated images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import check_features
from evaluation.features.moments import FeatureStatistics
from evaluation.influence._checks import InfluenceError, Matrix, Vector, check_weights, check_width

LEAST_SHRINKAGE = 0.01
"""What `FrechetInfluence.fit` shrinks by where Ledoit and Wolf's rule says less, or nothing."""


@dataclass(frozen=True, eq=False)
class FrechetInfluence:
    """The Fréchet distance of a mixture of images to real ones, and its derivative towards any image.

    With weights w of sum 1, mean mu and covariance S of the generated images (over the sum of the weights,
    not n - 1), m and R of the real ones, both covariances shrunk by one intensity s towards one multiple of
    the identity, ``S_s = (1 - s) S + s tr(R) / d I``::

        F(w) = |mu - m|^2 + tr S_s + tr R_s - 2 tr (S_s R_s)^(1/2)

    The influence of x is the derivative of F as w moves to (1 - e) w + e delta_x at e = 0 (Koh and Liang 2017
    use the same derivative for training sets). With u = x - mu and M = R_s^(1/2) (R_s^(1/2) S_s R_s^(1/2))
    ^(-1/2) R_s^(1/2)::

        2 (mu - m)'u + (1 - s) (|u|^2 - u'Mu - sum_i w_i (|u_i|^2 - u_i'Mu_i))

    Without shrinkage a set of fewer images than features has no finite derivative towards an image outside
    their span, hence the rule: s is Ledoit and Wolf's intensity (2004) for the real images, at least 0.01, or
    what is given. It rests on neither the generated images nor their weights, so that distances of one search
    compare. Whitened features would be shrunk to means alone: give s for these. As every Fréchet distance of
    few images, this one rewards mode collapse.

    Time grows with d^3: for another set about 0.1 s at d = 512, 3 to 5 s at d = 2048 on one core, twice that
    for the first; values of new images are quick.

    Attributes:
        value: F(w), lower is better, 0 or above; 0 for equal moments. But for the n - 1 there and the
            shrinkage here it is `frechet_distance`.
        shrinkage: s, from 0 to 1.
        weights: shape (n,), sum 1.
    """

    value: float
    shrinkage: float
    weights: Vector = field(repr=False)
    _rows: Matrix = field(repr=False)
    _mean: Vector = field(repr=False)
    _real: _Real = field(repr=False)
    _factor: Matrix = field(repr=False)  # M = factor factor'

    @classmethod
    def fit(
        cls,
        generated: ArrayLike,
        real: ArrayLike | FeatureStatistics,
        *,
        weights: ArrayLike | None = None,
        shrinkage: float | None = None,
    ) -> FrechetInfluence:
        """Of the current set.

        Args:
            generated: features, shape (n, d), two rows or more.
            real: features, shape (m, d), two rows or more, or their `FeatureStatistics`.
            weights: shape (n,), from 0 on, scaled to sum to 1; equal ones if None.
            shrinkage: from 0 to 1, where only the means count; by the rule above if None (0.01 where
                the real ones are statistics, which do not say).

        Raises:
            ValueError: wrong shapes or features, or (InfluenceError) weights that do not fit, a shrinkage
                outside 0 to 1, or one of 0 with covariances that lack full rank.

        Example:
            >>> real = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]
            >>> made = FrechetInfluence.fit([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], real, shrinkage=0.1)
            >>> far, near = made.influence([[0.0, 0.0], [2.0, 2.0]])
            >>> bool(near < 0 < far)  # another corner image helps
            True
        """
        rows = check_features(generated, "generated")
        if isinstance(real, FeatureStatistics):
            mean, count = real.mean, real.count
            covariance = real.covariance * ((count - 1) / max(count, 1))
            intensity = LEAST_SHRINKAGE
        else:
            own = check_features(real, "real")
            mean, count = own.mean(axis=0) if len(own) else np.zeros(own.shape[1]), len(own)
            centered = own - mean
            covariance = centered.T @ centered / max(count, 1)
            intensity = _ledoit_wolf(own) if shrinkage is None and count > 1 else LEAST_SHRINKAGE
        check_width(rows, len(mean))
        if min(len(rows), count) < 2:
            raise InfluenceError(
                f"{len(rows)} generated and {count} real images; two or more of each are needed"
            )
        if shrinkage is None:
            shrinkage = max(intensity, LEAST_SHRINKAGE)
        elif not 0 <= shrinkage <= 1:
            raise InfluenceError("is not from 0 to 1", key="shrinkage", value=shrinkage)
        return cls._of(
            rows, _Real.of(mean, covariance, shrinkage), check_weights(weights, len(rows), of="images")
        )

    def refit(self, generated: ArrayLike, *, weights: ArrayLike | None = None) -> FrechetInfluence:
        """Of another set, with the same real images and shrinkage; arguments and errors as `fit`."""
        rows = check_width(check_features(generated, "generated"), len(self._mean))
        return self._of(rows, self._real, check_weights(weights, len(rows), of="images"))

    @classmethod
    def _of(cls, rows: Matrix, real: _Real, weights: Vector) -> FrechetInfluence:
        from scipy.linalg import eigh

        mean = weights @ rows
        centered = rows - mean
        values, vectors = eigh(real.sandwich(centered.T @ (weights[:, None] * centered)))
        if values[0] <= len(mean) * np.finfo(float).eps * values[-1]:
            raise InfluenceError(
                "the covariances lack full rank, so that the derivative has no finite value",
                key="shrinkage",
                value=real.shrinkage,
                remedy="Give a larger one, say 0.1, or None.",
            )
        spread = float(weights @ np.einsum("ij,ij->i", centered, centered))
        value = real.assemble(mean, spread, values)
        return cls(value, real.shrinkage, weights, rows, mean, real, real.root @ (vectors * values**-0.25))

    def influence(self, features: ArrayLike) -> Vector:
        """The derivative of F towards each image, shape (n,): below 0, more of it brings the set nearer.

        The weighted mean over the set's own images is 0.

        Args:
            features: shape (n, d).

        Raises:
            ValueError: wrong shapes or features.
        """
        x = check_width(check_features(features, "features"), len(self._mean))
        return self._raw(x) - self._level

    def leave_one_out(self) -> Vector:
        """F without each image of the set in turn, less F, shape (n,), exact: above 0, the image helps.

        The others keep their proportions. To first order ``-w_i / (1 - w_i)`` times the influence. One
        d x d eigenvalue problem an image.

        Raises:
            InfluenceError: one image has all the weight.
        """
        from scipy.linalg import eigvalsh

        if self.weights.max() >= 1:
            raise InfluenceError("one image has all the weight; nothing is left without it", key="weights")
        real, centered = self._real, self._rows - self._mean
        scatter = centered.T @ (self.weights[:, None] * centered)
        changes = np.empty(len(self.weights))
        for i, (w, u) in enumerate(zip(self.weights, centered, strict=True)):
            share = w / (1 - w)
            left = scatter / (1 - w) - (share / (1 - w)) * np.outer(u, u)
            values = eigvalsh(real.sandwich(left))
            changes[i] = real.assemble(self._mean - share * u, float(np.trace(left)), values) - self.value
        return changes

    def _raw(self, x: Matrix) -> Vector:
        u = x - self._mean
        inner = np.einsum("ij,ij->i", u, u) - np.sum((u @ self._factor) ** 2, axis=1)
        return 2 * (u @ (self._mean - self._real.mean)) + (1 - self.shrinkage) * inner

    @property
    def _level(self) -> float:
        return float(self.weights @ self._raw(self._rows))


@dataclass(frozen=True, eq=False)
class _Real:
    """The real images' side: mean, root of the shrunk covariance, its trace, and the target's variance."""

    mean: Vector
    root: Matrix
    trace: float
    target: float
    shrinkage: float

    @classmethod
    def of(cls, mean: Vector, covariance: Matrix, shrinkage: float) -> _Real:
        from scipy.linalg import eigh

        target = float(np.trace(covariance)) / len(mean)
        values, vectors = eigh((1 - shrinkage) * covariance)
        values = np.maximum(values, 0.0) + shrinkage * target
        root = (vectors * np.sqrt(values)) @ vectors.T
        return cls(mean, root, float(values.sum()), target, shrinkage)

    def shrunk(self, covariance: Matrix) -> Matrix:
        moved = (1 - self.shrinkage) * covariance
        moved[np.diag_indices(len(moved))] += self.shrinkage * self.target
        return moved

    def sandwich(self, covariance: Matrix) -> Matrix:
        """R_s^(1/2) S_s R_s^(1/2)."""
        return self.root @ self.shrunk(covariance) @ self.root

    def assemble(self, mean: Vector, spread: float, values: Vector) -> float:
        """F of a set with this mean, trace of the covariance, and eigenvalues of the sandwich."""
        own = (1 - self.shrinkage) * spread + self.shrinkage * self.target * len(self.mean)
        cross = float(np.sqrt(np.maximum(values, 0.0)).sum())
        # the exact value cannot be negative; what rounding leaves below zero is zero
        return max(float(np.sum((mean - self.mean) ** 2)) + own + self.trace - 2 * cross, 0.0)


def _ledoit_wolf(rows: Matrix) -> float:
    from sklearn.covariance import ledoit_wolf_shrinkage

    return float(ledoit_wolf_shrinkage(rows))
