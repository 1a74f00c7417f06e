"""Maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012): the distance to search by.

At 16 to 256 images the Fréchet distance prefers a collapsed generator; this one does not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features, check_pair
from evaluation.estimate import Estimate
from evaluation.metrics._two_sample import Kernel, Matrix, across, u_statistic, within
from promptopt.base.errors import ArgumentError

RELIABLE_FROM = 16
"""Fewest images in either set for which a 95 % interval was seen to cover as much (Gaussians, d = 32)."""


def median_bandwidth(reference: ArrayLike) -> float:
    """Median distance between two different rows of the reference, the usual bandwidth.

    Taken from the reference alone, and once, so that every prompt of a study is measured with the same
    kernel. Needs 4 m^2 bytes of memory for m rows.

    Raises:
        ValueError: fewer than two rows, or more than half of the pairs coincide.
    """
    from scipy.spatial.distance import pdist

    rows = check_features(reference, "reference")
    if len(rows) < 2:
        raise ArgumentError(
            f"reference has {len(rows)} rows; a median distance needs two or more reference images"
        )
    median = float(np.median(pdist(rows)))
    if median == 0:
        raise ArgumentError(
            "the median distance in the reference is 0: most of its images are equal; remove copies"
        )
    return median


def mmd(
    generated: ArrayLike, reference: ArrayLike, *, bandwidth: float | None = None, level: float = 0.95
) -> Estimate:
    """Unbiased estimate (U-statistic) of MMD^2 with k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)).

    Args:
        generated: features, shape (n, d).
        reference: features, shape (m, d).
        bandwidth: of the kernel, in feature units; `median_bandwidth` of the reference when not given.
        level: coverage of the interval.

    Returns:
        value <= 2, lower is better, centered on 0 for equal distributions and so at times negative; a score
        interval for new draws of both sets. ``undefined`` below two images in either set, without interval
        below four, ``unreliable`` below 16.

    Raises:
        ValueError: wrong shapes, different widths, a feature that is not finite, or a bandwidth not above 0.
    """
    x, y = check_pair(generated, reference, names=("generated", "reference"))
    method = "RBF-MMD^2, U-statistic"
    if min(len(x), len(y)) < 2:
        return Estimate.undefined(min(len(x), len(y)), method)
    width = median_bandwidth(y) if bandwidth is None else check_bandwidth(bandwidth)
    # distances come from a product of matrices; near the origin it loses nothing to cancellation
    center = y.mean(axis=0)
    return u_statistic(
        x - center,
        y - center,
        gaussian_kernel(width),
        level=level,
        method=f"{method}, bandwidth {width:.6g}",
        reliable_from=RELIABLE_FROM,
    )


def mmd_contributions(
    generated: ArrayLike, reference: ArrayLike, *, bandwidth: float | None = None
) -> NDArray[np.float64]:
    """What each generated image adds to MMD^2: higher is worse.

    For image i, with A_i its mean kernel value with the other generated images, C_i that with the reference
    and A the mean of all A_i::

        c_i = 2 (A_i - C_i) - A

    Their mean is ``A - 2 mean(C)``, which is MMD^2 without the term of the reference alone: the mean of
    ``c - c'`` for two generators over the same reference and with the same bandwidth is exactly the
    difference of their MMD^2. Their variance is that of the first-order projection, so that a paired t
    interval on ``c - c'`` (same seeds) is an interval for that difference.

    An image among others of its like, where the reference has few, contributes most. A lone image far from
    everything contributes about as little as one that fits: the kernel sees neither near it.

    Args:
        generated: features, shape (n, d), two rows or more.
        reference: features, shape (m, d), one row or more (two, without a bandwidth).
        bandwidth: as for `mmd`; give the same one to what is compared.

    Returns:
        shape (n,), float64, in the order of `generated`; each between -3 and 2.

    Raises:
        ValueError: as `mmd`, and for too few rows.
    """
    x, y = check_pair(generated, reference, names=("generated", "reference"))
    if len(x) < 2 or len(y) < 1:
        raise ArgumentError(
            f"{len(x)} generated and {len(y)} reference images; contributions need 2 and 1 or more"
        )
    width = median_bandwidth(y) if bandwidth is None else check_bandwidth(bandwidth)
    center = y.mean(axis=0)
    kernel = gaussian_kernel(width)
    own, other = within(x - center, kernel).means, across(x - center, y - center, kernel).of_x
    return 2 * (own - other) - own.mean()


def check_bandwidth(bandwidth: float) -> float:
    """The bandwidth, or a ValueError where it is not above 0."""
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise ArgumentError(
            f"bandwidth is {bandwidth!r}; expected a number above 0, say median_bandwidth(reference)"
        )
    return float(bandwidth)


def gaussian_kernel(bandwidth: float) -> Kernel:
    """k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)) between the rows of two matrices near the origin."""

    def kernel(a: Matrix, b: Matrix) -> Matrix:
        squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)
        return np.exp(-np.maximum(squares, 0.0) / (2 * bandwidth**2))

    return kernel
