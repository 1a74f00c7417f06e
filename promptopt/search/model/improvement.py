"""By how much prompts are expected to improve on what is known."""

from __future__ import annotations

import numpy as np

from promptopt.search.model.noise import FloatArray


def improvements(values: FloatArray, lead: FloatArray) -> FloatArray:
    """Expected improvement of each prompt over the best one in the same joint draw (Letham et al. 2019).

    Where none is likely to improve at all, the means, less so much that only their order says anything.

    Args:
        values: joint draws of the prompts' values, shape (draws, prompts).
        lead: what is to be improved on in each draw, shape (draws,).
    """
    gain = np.maximum(values - lead[:, None], 0.0).mean(axis=0)
    if not gain.max() > 0:
        gain = values.mean(axis=0) - values.mean() - 1e9
    return np.asarray(gain, dtype=np.float64)
