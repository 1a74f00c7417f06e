"""What every influence asks of its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.estimate import check_vector
from promptopt.base.errors import PromptoptError

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class InfluenceError(PromptoptError, ValueError):
    """An influence has no value; the message names the argument and the remedy."""


def check_weights(weights: ArrayLike | None, n: int, *, of: str) -> Vector:
    """The n weights, not negative, scaled to sum to 1; equal ones for None."""
    if n == 0:
        raise InfluenceError(f"there are no {of}; one or more are needed")
    if weights is None:
        return np.full(n, 1 / n)
    array = np.asarray(check_vector(weights, "weights"))
    if len(array) != n:
        raise InfluenceError(f"{len(array)} weights for {n} {of}", key="weights", remedy=f"Give {n} weights.")
    if array.min() < 0 or array.sum() <= 0:
        raise InfluenceError(
            "must not be negative, nor all 0", key="weights", remedy="Give shares, say [0.7, 0.3]."
        )
    return array / array.sum()


def check_labels(labels: Any, n: int, name: str) -> NDArray[Any]:
    """The labels as an array (n,)."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InfluenceError(
            f"has shape {array.shape}; expected ({n},)", key=name, remedy="Give one label an image."
        )
    return array


def check_positive(value: float, name: str) -> float:
    """A finite number above 0."""
    if not (np.isfinite(value) and value > 0):
        raise InfluenceError("is not above 0", key=name, value=value, remedy="Give a number, say 1.0.")
    return float(value)


def check_width(features: Matrix, dim: int) -> Matrix:
    """The features, of the width that the current set has."""
    if features.shape[1] != dim:
        raise InfluenceError(
            f"have {features.shape[1]} columns, the current set has {dim}",
            key="features",
            remedy="Use the same encoder.",
        )
    return features
