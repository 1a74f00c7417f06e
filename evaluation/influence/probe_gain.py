"""What an image is worth to a classifier: its influence on the validation loss of a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.influence._checks import InfluenceError, Matrix, Vector, check_labels, check_positive
from evaluation.influence._logistic import (
    Logistic,
    Rows,
    fit_logistic,
    log_probabilities,
    residuals,
    with_ones,
)
from evaluation.influence._probe_data import ProbeData

L2_GRID = tuple(float(10.0**power) for power in np.arange(-2, 5.5, 0.5))
"""Where `ProbeGain.fit` looks for the penalty."""

BLOCK = 64
"""Images whose Newton steps are held at a time."""


@dataclass(frozen=True, eq=False)
class ProbeGain:
    """A probe on few real images and the current synthetic set, and the gain of adding an image to them.

    The probe is a multinomial logistic regression on standardized features (moments of the real and
    validation images, so that they stay when the synthetic set changes)::

        theta = argmin sum_real loss + sum_synthetic w_j loss_j + l2 / 2 |coefficients|^2

    With L the class-balanced mean log loss on the validation images and H the Hessian at theta, an image
    (x, y) added with a small weight e lowers L by ``e * gain`` (Koh and Liang 2017, up-weighting)::

        gain = -dL / de = grad L(theta)' H^-1 grad loss(x, y; theta)

    All images cost one solve with H: by Cholesky up to 2,048 parameters, beyond by conjugate gradients, and
    with fewer training images than features in their span, exactly. No dimension is dropped.

    In a mixture of fixed total weight, a prompt adds its mean gain less the weighted mean of `own_gains`.

    Attributes:
        classes: labels in order.
        l2: the penalty in use.
        loss: L, in nats; log(number of classes) for a probe that knows nothing.
        balanced_accuracy: mean recall on the validation images, weighted as L.
        weights: shape (k,), the synthetic images' weights in the training, in real images.
    """

    classes: tuple[Any, ...]
    l2: float
    loss: float
    balanced_accuracy: float
    weights: Vector = field(repr=False)
    _data: ProbeData = field(repr=False)
    _model: Logistic = field(repr=False)

    @classmethod
    def fit(
        cls,
        real_features: ArrayLike,
        real_labels: ArrayLike,
        validation_features: ArrayLike,
        validation_labels: ArrayLike,
        *,
        synthetic_features: ArrayLike | None = None,
        synthetic_labels: ArrayLike | None = None,
        synthetic_weights: ArrayLike | None = None,
        synthetic_weight: float | None = None,
        validation_groups: ArrayLike | None = None,
        l2: float | None = None,
    ) -> ProbeGain:
        """Train the probe.

        Args:
            real_features: shape (n, d), weight 1 each; n = 0 leaves the probe to the synthetic images.
            real_labels: shape (n,), numbers or texts.
            validation_features: shape (v, d), real images that are not among the first.
            validation_labels: shape (v,), two classes or more; they are the probe's classes.
            synthetic_features: shape (k, d), the current set; None for none.
            synthetic_labels: shape (k,).
            synthetic_weights: shape (k,), from 0 on, how images of one class compare; 1 each if None.
            synthetic_weight: what the synthetic images of a class weigh together, in real images; the number
                of those with a weight above 0 if None.
            validation_groups: shape (v,), say patients: each group of a class then counts the same.
            l2: the penalty, above 0. If None, that of `L2_GRID` with the least validation loss (the largest
                of equals). Separable real images admit no probe without it. To first order the gain is the
                same with l2 chosen again, since L does not change with l2 at its best.

        Raises:
            ValueError: wrong shapes, features that are not finite, or (InfluenceError) one class alone, a
                class without an image to train on, an unknown class, or weights or l2 out of range.
            evaluation.classifier.probe.NotConvergedError: with an l2 that is far too small.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> y = np.repeat(["normal", "polyp"], 20)
            >>> x = rng.normal(size=(40, 2)) + 2.0 * (y == "polyp")[:, None]
            >>> probe = ProbeGain.fit(x[::2], y[::2], x[1::2], y[1::2], l2=1.0)
            >>> right, wrong = probe.gains([[0.3, 0.3], [0.3, 0.3]], ["normal", "polyp"])
            >>> bool(right > wrong)
            True
        """
        data = ProbeData.of(
            real_features,
            real_labels,
            validation_features,
            validation_labels,
            groups=validation_groups,
            synthetic_weight=synthetic_weight,
        ).with_synthetic(synthetic_features, synthetic_labels, synthetic_weights)
        best: ProbeGain | None = None
        start = None
        for penalty in sorted(L2_GRID, reverse=True) if l2 is None else [check_positive(l2, "l2")]:
            probe = cls._trained(data, l2=penalty, start=start)
            start = probe._model
            if best is None or probe.loss < best.loss:
                best = probe
        assert best is not None  # the grid is not empty
        return best

    @classmethod
    def _trained(
        cls, data: ProbeData, *, l2: float, start: Logistic | None, extra: Rows | None = None
    ) -> ProbeGain:
        synthetic = data.synthetic_rows()
        rows = data.real + synthetic if extra is None else data.real + synthetic + extra
        model = fit_logistic(rows, classes=len(data.classes), l2=l2, start=start)
        logs = model.log_probabilities(data.validation.x)
        codes, weights = data.validation.codes, data.validation.weights
        loss = -float(weights @ logs[np.arange(len(logs)), codes])
        right = float(weights @ (logs.argmax(axis=1) == codes))
        return cls(data.classes, l2, loss, right, synthetic.weights, data, model)

    @cached_property
    def _slope(self) -> Matrix:
        """H^-1 grad L, shape (classes - 1, d + 1)."""
        held_out, model = self._data.validation, self._model
        slopes = residuals(model.log_probabilities(held_out.x), held_out.codes, model.contrasts)
        gradient = (held_out.weights[:, None] * slopes).T @ with_ones(held_out.x)
        return model.solve(gradient[None])[0]

    def gains(self, features: ArrayLike, label: Any, *, weight: float = 0.0) -> Vector:
        """The gain of each image as one of class `label`, (n,), in nats a unit of weight: higher is better.

        Args:
            features: shape (n, d).
            label: one of `classes` for all images, or (n,) of them.
            weight: 0 for the derivative; otherwise the fall of L over `weight` after one Newton step with the
                image added at this weight. Dearer; nearer to `retrained_gain` without a current set, but it
                overshoots for images that look of another class: with a set 0 ranked better.

        Raises:
            ValueError: wrong features, or (InfluenceError) an unknown class or a weight below 0.
        """
        x = self._data.standardized(features, "features")
        codes = self._data.codes(np.broadcast_to(label, len(x)), len(x), "label")
        if weight == 0:
            return self._gains(x, codes)
        check_positive(weight, "weight")
        held_out, seen = self._data.validation, with_ones(self._data.validation.x)
        gains = np.empty(len(x))
        for start in range(0, len(x), BLOCK):
            block = slice(start, start + BLOCK)
            moved = self._model.stepped(x[block], codes[block], weight)
            logs = log_probabilities(
                np.einsum("vd,nbd->nvb", seen, moved, optimize=True), self._model.contrasts
            )
            right = logs[:, np.arange(len(seen)), held_out.codes]
            gains[block] = (self.loss + right @ held_out.weights) / weight
        return gains

    @cached_property
    def own_gains(self) -> Vector:
        """The gain (the derivative) of each image of the current synthetic set, shape (k,)."""
        own = self._data.synthetic_rows()
        return self._gains(own.x, own.codes)

    def _gains(self, x: Matrix, codes: NDArray[np.intp]) -> Vector:
        model = self._model
        slopes = residuals(model.log_probabilities(x), codes, model.contrasts)
        return np.einsum("nc,nc->n", slopes, with_ones(x) @ self._slope.T)

    def refit(
        self,
        *,
        synthetic_features: ArrayLike | None = None,
        synthetic_labels: ArrayLike | None = None,
        synthetic_weights: ArrayLike | None = None,
    ) -> ProbeGain:
        """The probe with another synthetic set, with the same l2 and everything else; arguments as `fit`."""
        data = self._data.with_synthetic(synthetic_features, synthetic_labels, synthetic_weights)
        return self._trained(data, l2=self.l2, start=self._model)

    def without(self, left_out: ArrayLike) -> ProbeGain:
        """The probe without some images of its synthetic set.

        Args:
            left_out: shape (k,), booleans. With a `synthetic_weight` the other images of the class take over
                the weight of these, otherwise it is gone.

        Raises:
            InfluenceError: a wrong shape, or a class without an image to train on.
        """
        mask = check_labels(left_out, len(self.weights), "left_out").astype(bool)
        return self._trained(self._data.without(mask), l2=self.l2, start=self._model)


def retrained_gain(probe: ProbeGain, sets: Sequence[ArrayLike], label: Any, *, weight: float = 1.0) -> Vector:
    """The gain of adding each set of images for real: the probe is trained again for each of them.

    The brute force for `ProbeGain.gains`, to whose mean over the set it tends as `weight` tends to 0.

    Args:
        probe: the probe before.
        sets: of each set the features, (n_i, d), one row or more; a single image is a set of one row.
        label: the images' class.
        weight: of a set, in real images, shared equally by its images; above 0.

    Returns:
        shape (len(sets),), the fall of the validation loss over `weight`.

    Raises:
        ValueError: as `ProbeGain.gains`, or (InfluenceError) an empty set or a weight not above 0.

    Example:
        >>> x, y = [[0.0], [1.0], [3.0], [4.0]], [0, 0, 1, 1]
        >>> probe = ProbeGain.fit(x[::2], y[::2], x[1::2], y[1::2], l2=1.0)
        >>> bool(retrained_gain(probe, [[[4.0], [3.5]]], 1)[0] > retrained_gain(probe, [[[4.0]]], 0)[0])
        True
    """
    check_positive(weight, "weight")
    data, found = probe._data, []
    for number, features in enumerate(sets):
        x = data.standardized(features, f"sets[{number}]")
        if not len(x):
            raise InfluenceError("has no image", key=f"sets[{number}]")
        codes = data.codes(np.broadcast_to(label, len(x)), len(x), "label")
        extra = Rows(x, codes, np.full(len(x), weight / len(x)))
        after = ProbeGain._trained(data, l2=probe.l2, start=probe._model, extra=extra)
        found.append((probe.loss - after.loss) / weight)
    return np.array(found, dtype=np.float64)
