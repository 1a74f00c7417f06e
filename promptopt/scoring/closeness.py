"""Whether one set of images is nearer to the real ones than another, on seeds that both share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import check_features
from evaluation.estimate import Estimate, Status
from evaluation.metrics.mmd import RELIABLE_FROM, gaussian_kernel, mmd_contributions


@dataclass(frozen=True)
class Difference:
    """``estimate`` is the first set's MMD^2 minus the second's: below 0 the first is nearer.

    ``p_value`` is two-sided, for no difference.
    """

    estimate: Estimate
    p_value: float


def closeness_difference(
    first: ArrayLike, second: ArrayLike, real: ArrayLike, *, bandwidth: float, level: float = 0.95
) -> Difference:
    """MMD^2 of `first` to `real` minus that of `second`, with an interval for new seeds and new real images.

    The difference is a mean over seeds of differences of contributions (`mmd_contributions`), and also a mean
    over real images of ``2 (mean k(y, r) - mean k(x, r))``. Its variance adds what the seeds and what the
    real images bring, with Welch and Satterthwaite's degrees of freedom.

    Args:
        first, second: features of generated images, shape (n, d) each; row s of both is of the same seed.
        real: features of real images that neither set was fitted to, shape (m, d).
        bandwidth: of the Gaussian kernel, above 0.
        level: coverage of the interval.

    Returns:
        ``undefined`` below two images on either side, ``unreliable`` below 16.

    Raises:
        ValueError: other numbers of images in the two sets, or features of wrong shape.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> real, near, far = rng.normal(size=(60, 2)), rng.normal(size=(60, 2)), rng.normal(2, 1, (60, 2))
        >>> closeness_difference(near, far, real, bandwidth=1.5).estimate.high < 0
        True
    """
    from scipy.special import stdtr, stdtrit

    x, y, r = (check_features(a, n) for a, n in ((first, "first"), (second, "second"), (real, "real")))
    if len(x) != len(y):
        raise ValueError(f"first has {len(x)} images and second {len(y)}; draw both with the same seeds")
    n, m = len(x), len(r)
    method = f"difference of RBF-MMD^2, paired by seed, bandwidth {bandwidth:.6g}"
    if min(n, m) < 2:
        return Difference(Estimate.undefined(min(n, m), method), 1.0)
    own = mmd_contributions(x, r, bandwidth=bandwidth) - mmd_contributions(y, r, bandwidth=bandwidth)
    near = 2 * (_to_real(y, r, bandwidth) - _to_real(x, r, bandwidth))
    parts = (float(own.var(ddof=1)) / n, float(near.var(ddof=1)) / m)
    value, variance = float(own.mean()), sum(parts)
    if variance <= 1e-18:  # the very same images
        return Difference(Estimate(value, None, None, n, method, "unreliable"), 1.0)
    freedom = variance**2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1))
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    status: Status = "ok" if min(n, m) >= RELIABLE_FROM else "unreliable"
    p = 2 * float(stdtr(freedom, -abs(value) / error))
    return Difference(Estimate(value, value - half, value + half, n, method, status), p)


def _to_real(x: np.ndarray, real: np.ndarray, bandwidth: float) -> np.ndarray:
    """Mean kernel value of each real image with the generated ones, (m,)."""
    center = real.mean(axis=0)
    return np.asarray(gaussian_kernel(bandwidth)(x - center, real - center).mean(axis=0))
