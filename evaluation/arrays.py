"""What every metric asks of its input."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promptopt.base.errors import ArgumentError


def check_features(features: ArrayLike, name: str) -> NDArray[np.float64]:
    """The features as a finite float64 matrix (n, d), or a ValueError that names the first bad row."""
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ArgumentError(f"{name} has shape {array.shape}; expected (images, features)")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ArgumentError(
            f"{name}: row {bad[0]} holds a NaN or an infinity ({len(bad)} of {len(array)} rows do); "
            "leave those images out or encode them again"
        )
    return array


def check_pair(
    a: ArrayLike, b: ArrayLike, *, names: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two feature matrices of one width."""
    first, second = check_features(a, names[0]), check_features(b, names[1])
    if first.shape[1] != second.shape[1]:
        raise ArgumentError(
            f"{names[0]} has {first.shape[1]} features an image and {names[1]} {second.shape[1]}; "
            "both must come from the same encoder"
        )
    return first, second


def normalized(features: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows scaled to length 1; a row of zeros is refused, since it has no direction."""
    array = check_features(features, name)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    zero = np.flatnonzero(lengths == 0)
    if len(zero):
        raise ArgumentError(
            f"{name}: row {zero[0]} is all zeros and has no direction; check its image and encoder"
        )
    return array / lengths
