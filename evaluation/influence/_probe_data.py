"""The images behind a probe's gain, checked and standardized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features, check_pair
from evaluation.estimate import check_vector
from evaluation.influence._checks import (
    InfluenceError,
    Matrix,
    Vector,
    check_labels,
    check_positive,
    check_width,
)
from evaluation.influence._logistic import Rows


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Real, validation and synthetic images in standardized features; the last with relative weights."""

    classes: tuple[Any, ...]
    mean: Vector
    scale: Vector
    real: Rows
    validation: Rows
    synthetic: Rows
    synthetic_weight: float | None

    @classmethod
    def of(
        cls,
        real_features: ArrayLike,
        real_labels: ArrayLike,
        validation_features: ArrayLike,
        validation_labels: ArrayLike,
        *,
        groups: ArrayLike | None,
        synthetic_weight: float | None,
    ) -> ProbeData:
        """Without synthetic images; see `ProbeGain.fit`."""
        real, held_out = check_pair(
            real_features, validation_features, names=("real_features", "validation_features")
        )
        truth = check_labels(validation_labels, len(held_out), "validation_labels")
        classes = tuple(np.unique(truth).tolist())
        if len(classes) < 2:
            raise InfluenceError(
                f"the {len(held_out)} validation images are of {len(classes)} classes; two or more needed",
                remedy="Add validation images of the other classes.",
            )
        if synthetic_weight is not None:
            synthetic_weight = check_positive(synthetic_weight, "synthetic_weight")
        both = np.concatenate([real, held_out])
        mean, scale = both.mean(axis=0), both.std(axis=0)
        # a feature that varies by rounding alone would be blown up to size 1
        scale = np.where(scale > 1e-12 * (np.abs(mean) + 1.0), scale, 1.0)
        empty = Rows(np.empty((0, len(mean))), np.empty(0, dtype=np.intp), np.empty(0))
        bare = cls(classes, mean, scale, empty, empty, empty, synthetic_weight)
        codes = bare.codes(truth, len(held_out), "validation_labels")
        weights = _validation_weights(codes, groups)
        return replace(
            bare,
            real=Rows(
                (real - mean) / scale, bare.codes(real_labels, len(real), "real_labels"), np.ones(len(real))
            ),
            validation=Rows((held_out - mean) / scale, codes, weights),
        )

    def with_synthetic(
        self, features: ArrayLike | None, labels: ArrayLike | None, weights: ArrayLike | None
    ) -> ProbeData:
        """With these synthetic images in place of the ones before."""
        if features is None:
            if labels is not None or weights is not None:
                raise InfluenceError(
                    "is missing, but its labels or weights are given", key="synthetic_features"
                )
            features, labels = np.empty((0, len(self.mean))), np.empty(0)
        if labels is None:
            raise InfluenceError("is missing", key="synthetic_labels", remedy="Give each image's class.")
        x = self.standardized(features, "synthetic_features")
        relative = (
            np.ones(len(x)) if weights is None else np.asarray(check_vector(weights, "synthetic_weights"))
        )
        if relative.shape != (len(x),) or (relative < 0).any():
            raise InfluenceError(
                f"{len(relative)} weights for {len(x)} images, or a negative one", key="synthetic_weights"
            )
        return self._complete(Rows(x, self.codes(labels, len(x), "synthetic_labels"), relative))

    def without(self, mask: NDArray[np.bool_]) -> ProbeData:
        """Without the synthetic images in the mask."""
        kept, own = ~mask, self.synthetic
        return self._complete(Rows(own.x[kept], own.codes[kept], own.weights[kept]))

    def _complete(self, synthetic: Rows) -> ProbeData:
        present = {*self.real.codes.tolist(), *synthetic.codes[synthetic.weights > 0].tolist()}
        for code, name in enumerate(self.classes):
            if code not in present:
                raise InfluenceError(
                    f"class {name!r} has validation images but none to train on",
                    remedy="Give a real or synthetic image of it.",
                )
        return replace(self, synthetic=synthetic)

    def synthetic_rows(self) -> Rows:
        """The synthetic images with their weights in real images."""
        own = self.synthetic
        weights = np.zeros(len(own.weights))
        for code in np.unique(own.codes):
            members = own.codes == code
            relative = own.weights[members]
            counted = np.count_nonzero(relative)
            total = float(counted) if self.synthetic_weight is None else self.synthetic_weight
            if counted:
                weights[members] = relative * (total / relative.sum())
        return replace(own, weights=weights)

    def standardized(self, features: ArrayLike, name: str) -> Matrix:
        """(x - mean) / scale."""
        return (check_width(check_features(features, name), len(self.mean)) - self.mean) / self.scale

    def codes(self, labels: ArrayLike, n: int, name: str) -> NDArray[np.intp]:
        """Positions in `classes`."""
        array = check_labels(labels, n, name)
        place = {label: code for code, label in enumerate(self.classes)}
        unknown = [label for label in array.tolist() if label not in place]
        if unknown:
            raise InfluenceError(
                "is no class of the validation images",
                key=name,
                value=unknown[0],
                remedy=f"Their classes are {', '.join(map(repr, self.classes))}.",
            )
        return np.array([place[label] for label in array.tolist()], dtype=np.intp)


def _validation_weights(codes: NDArray[np.intp], groups: ArrayLike | None) -> Vector:
    """Each class weighs the same, in it each group, in that each image; sum 1."""
    names = np.arange(len(codes)) if groups is None else check_labels(groups, len(codes), "validation_groups")
    weights = np.zeros(len(codes))
    classes = np.unique(codes)
    for code in classes:
        members = np.flatnonzero(codes == code)
        _, place, sizes = np.unique(names[members], return_inverse=True, return_counts=True)
        weights[members] = 1 / (len(classes) * len(sizes) * sizes[place])
    return weights
