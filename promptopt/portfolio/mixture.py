"""The MMD of a mixture of prompts: a quadratic form in the weights.

With mu_i the kernel mean embedding of prompt i's images and nu that of the real ones (Gretton et al. 2012)::

    MMD^2(w) = |sum_i w_i mu_i - nu|^2 = w'Kw - 2 w'm + c
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import check_features, check_pair
from promptopt.base.errors import PromptoptError

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


class PortfolioError(PromptoptError, ValueError):
    """A mixture cannot be fitted or compared; the message names the prompt or the argument and the remedy."""


@dataclass(frozen=True, eq=False)
class MixtureForm:
    """The quadratic form of k prompts over one set of real images.

    Attributes:
        within: (k, k), mean kernel value between images of two prompts, each pair of seeds different, so that
            nothing is compared with itself or with its same-seed sister: unbiased for images drawn apart.
        error: (k, k), the inner products of the errors of the k sampled embeddings; its diagonal is how far
            each one is from the truth, squared, on average. Positive semidefinite, and so is within + error,
            which is the Gram matrix of the sampled embeddings themselves.
        across: (k,), mean kernel value between the images of a prompt and the real ones.
        real: mean kernel value among the real images, each pair different.
        real_self: the same with each image paired with itself too: the squared norm of their embedding.
    """

    within: FloatArray
    error: FloatArray
    across: FloatArray
    real: float
    real_self: float

    def mmd(self, weights: ArrayLike) -> float:
        """Unbiased estimate of MMD^2 of the mixture for weights fixed beforehand."""
        w = np.asarray(weights, dtype=np.float64)
        return float(w @ self.within @ w - 2 * w @ self.across + self.real)

    def cautious(self, weights: ArrayLike, *, caution: float) -> float:
        """`mmd` plus `caution` times the expected squared error of the mixture's sampled embedding."""
        w = np.asarray(weights, dtype=np.float64)
        return self.mmd(w) + caution * float(w @ self.error @ w)


def check_prompt_features(features: Mapping[str, ArrayLike], *, same_seeds: bool) -> list[FloatArray]:
    """The feature matrices in order, (n_i, d) each, float64.

    Raises:
        PortfolioError: no prompt, a prompt with fewer than two images, or different counts with `same_seeds`.
        ValueError: wrong shapes, or a feature that is not finite.
    """
    if not features:
        raise PortfolioError("features: no prompt given; a mixture needs one or more")
    rows = [check_features(own, f"features of {prompt!r}") for prompt, own in features.items()]
    for prompt, own in zip(features, rows, strict=True):
        if len(own) < 2:
            raise PortfolioError(
                f"features of {prompt!r}: {len(own)} images; two or more are needed. Make more of them"
            )
    counts = {len(own) for own in rows}
    if same_seeds and len(counts) > 1:
        raise PortfolioError(
            f"features: the prompts have {sorted(counts)} images, so rows cannot be the same seeds. Give all "
            "the same seeds, or say same_seeds=False"
        )
    return rows


def rbf(a: FloatArray, b: FloatArray, *, bandwidth: float) -> FloatArray:
    """exp(-|x - y|^2 / (2 bandwidth^2)), shape (len(a), len(b))."""
    from sklearn.metrics.pairwise import rbf_kernel

    center = b.mean(axis=0)  # distances come from products: near the origin nothing is lost to cancellation
    return np.asarray(rbf_kernel(a - center, b - center, gamma=0.5 / bandwidth**2), dtype=np.float64)


def mixture_form(
    features: Mapping[str, ArrayLike], reference: ArrayLike, *, bandwidth: float, same_seeds: bool = True
) -> MixtureForm:
    """The form of the prompts in `features` over the real images in `reference`.

    Args:
        features: prompt -> features of its images, shape (n_i, d), two rows or more each.
        reference: shape (m, d), two rows or more.
        bandwidth: of the kernel, above 0.
        same_seeds: row s of every prompt is of the same seed, as in a study; then images of two prompts with
            the same seed resemble each other, which those of a mixture would not.

    Raises:
        PortfolioError: as `check_prompt_features`, fewer than two real images, or a bandwidth not above 0.
        ValueError: wrong shapes, or a feature that is not finite.
    """
    rows = check_prompt_features(features, same_seeds=same_seeds)
    real = check_pair(rows[0], reference, names=("features", "reference"))[1]
    if len(real) < 2:
        raise PortfolioError(f"reference: {len(real)} real images; two or more are needed")
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise PortfolioError(f"bandwidth is {bandwidth!r}; expected a number above 0")
    k = len(rows)
    within, error = np.empty((k, k)), np.zeros((k, k))
    for i in range(k):
        for j in range(i, k):
            kernel = rbf(rows[i], rows[j], bandwidth=bandwidth)
            if i == j or same_seeds:
                n = len(kernel)
                own = float(np.trace(kernel))
                mean = (float(kernel.sum()) - own) / (n * (n - 1))
                error[i, j] = error[j, i] = (own / n - mean) / n
            else:
                mean = float(kernel.mean())
            within[i, j] = within[j, i] = mean
    across = np.array([float(rbf(own, real, bandwidth=bandwidth).mean()) for own in rows])
    kernel = rbf(real, real, bandwidth=bandwidth)
    m = len(real)
    apart = (float(kernel.sum()) - float(np.trace(kernel))) / (m * (m - 1))
    return MixtureForm(within, error, across, apart, float(kernel.mean()))
