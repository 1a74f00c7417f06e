"""The Fréchet distance of the scripts' covariances, by exact singular values in place of `sqrtm`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.frechet import frechet_distance
from promptopt.base.errors import ArgumentError

Matrix = NDArray[np.float64]


def spread_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """``tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))`` in float64, covariances over n - 1 as `np.cov` has them.

    The scripts take SciPy's `sqrtm` of S_a S_b. With fewer images than dimensions that product is singular,
    and some versions of SciPy answer with garbage; the sum of singular values is what a good one approaches.
    """
    centered = [np.asarray(x, dtype=np.float64) for x in (a, b)]
    value = frechet_distance(*(x - x.mean(axis=0) for x in centered), level=None).value
    if value is None:
        raise ArgumentError(f"{len(a)} and {len(b)} images; a covariance needs two or more in each set")
    return value
