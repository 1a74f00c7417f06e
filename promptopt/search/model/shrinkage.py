"""What confirmed prompts are worth after all: fresh scores and the search's model, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from evaluation.estimate import Estimate

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def shrink(
    fresh: Sequence[Estimate],
    per_image: Sequence[FloatArray],
    predicted: Sequence[tuple[float, float] | None],
) -> list[Estimate]:
    """Fresh scores, their differences shrunk toward those that the search's model predicts.

    The best fresh score is partly luck, so a prompt's lead over the others counts by its precision, as does
    the lead that the model predicts. Their common level is that of the fresh scores alone: all predictions
    hang on the search's images of the baseline prompt, and would be off together.

    Args:
        fresh: the scores' estimates, which remain where there is nothing to shrink to.
        per_image: the scores of each image, on the same seeds for all prompts.
        predicted: mean and SD by the model; None for a prompt given by hand, or the baseline.
    """
    found = [replace(one, method="fresh score alone") for one in fresh]
    known = [i for i, one in enumerate(predicted) if one is not None and one[1] > 0]
    if len(known) < 2 or len(per_image[known[0]]) < 2:
        return found
    scores = np.stack([per_image[i] for i in known])
    means, sds = np.array([predicted[i] for i in known]).T
    count = scores.shape[1]
    common = scores.mean(axis=0)
    own = scores - common
    errors = own.var(axis=1, ddof=1) / count
    share = sds**2 / (sds**2 + errors)
    values = common.mean() + share * own.mean(axis=1) + (1 - share) * (means - means.mean())
    variances = common.var(ddof=1) / count + share * errors
    half = student.ppf(0.975, count - 1) * np.sqrt(variances)
    method = "fresh scores, their differences with those of the search's model, by precision"
    for i, value, width in zip(known, values.tolist(), half.tolist(), strict=True):
        found[i] = Estimate(value, value - width, value + width, count, method, fresh[i].status)
    return found
