"""The model over slots for plain values, whose noise nobody has measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from promptopt.search.model.noise import FloatArray, IntArray
from promptopt.search.model.slot_model import LIMITS, PRIOR, SlotModel, correlations

_NOISE = float(np.log(0.1))  # expected share of a value's noise, as those of `PRIOR`; one unit wide


class ValueModel(SlotModel):
    """A `SlotModel` of single values instead of images on shared seeds; the noise is a fourth variance.

    Values that were measured more than once say how large it is. Where none was, noise is told from what a
    combination has of its own by the prior alone: the two share what options and pairs do not explain.

    Args:
        codes: shape (n, slots), each combination once, options as numbers from 0.
        values: what was measured of each, once or more.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[0, 0], [0, 1], [1, 0]])
        >>> mean, sd = ValueModel(codes, [[0.1], [1.0, 1.2], [1.0]]).predict(np.array([[1, 1], [0, 0]]))
        >>> bool(mean[0] > mean[1]), bool(sd[0] > sd[1])
        (True, True)
    """

    def __init__(self, codes: IntArray, values: Sequence[Sequence[float]]) -> None:
        self._counts = np.array([len(own) for own in values], dtype=np.float64)
        self._within = float(sum(np.var(own) * len(own) for own in values))
        means = np.array([np.mean(own) for own in values], dtype=np.float64)
        self._begin(codes, means, np.zeros((len(means), len(means))))

    def _fit(self, scale: float) -> FloatArray:
        between = correlations(self._codes, self._codes)
        free = float(self._counts.sum()) - len(self._counts)  # degrees of freedom within combinations
        prior = np.append(PRIOR, _NOISE)

        def loss(logs: FloatArray) -> float:
            *variances, noise = scale * np.exp(logs)
            whole = self._constant + np.tensordot(variances, between, axes=1) + np.diag(noise / self._counts)
            factor, lower = cho_factor(whole, lower=True)
            fit = 0.5 * float(self._values @ cho_solve((factor, lower), self._values))
            fit += float(np.log(np.diag(factor)).sum())
            fit += 0.5 * (free * float(np.log(noise)) + self._within / float(noise))
            return fit + 0.5 * float(((logs - prior) ** 2).sum())

        limits = [LIMITS] * 3 + [(-10.0, LIMITS[1])]
        found = minimize(loss, prior, method="L-BFGS-B", bounds=limits, options={"maxiter": 20})
        *variances, noise = scale * np.exp(found.x)
        self._error = np.diag(noise / self._counts)
        return np.asarray(variances, dtype=np.float64)
