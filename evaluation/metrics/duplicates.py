"""Does the generator repeat itself? Images nearer to each other than real ones ever are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features, normalized
from evaluation.estimate import Estimate, Status, check_level, wilson
from evaluation.metrics.memorization import BLOCK, group_numbers, pair_distances
from promptopt.base.errors import ArgumentError

Indices = NDArray[np.intp]
Matrix = NDArray[np.float64]

RELIABLE_FROM = 16


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What `duplicates` found.

    Attributes:
        share: of the images, those that are a near-duplicate (or a copy) of another one in the set.
        exact: of the images, those whose features another one has to the last bit.
        distance: shape (n,), to the nearest other image.
        nearest: shape (n,), its row.
        clusters: rows joined by near-duplicate pairs, the largest first; images alone are left out.
        radius: pairs nearer than this count as near-duplicates; None where the real images are too few to
            say, and only equal features count.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> drawn = rng.normal(size=(20, 8))
        >>> found = duplicates(np.concatenate([drawn, drawn[:1]]), rng.normal(size=(50, 8)))
        >>> found.clusters
        ((0, 20),)
    """

    share: Estimate
    exact: Estimate
    distance: Matrix
    nearest: Indices
    clusters: tuple[tuple[int, ...], ...]
    radius: float | None


def duplicates(
    features: ArrayLike,
    real: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    quantile: float = 0.01,
    distance: Literal["cosine", "euclidean"] = "cosine",
    level: float = 0.95,
) -> Duplicates:
    """Share of images with a near-duplicate in their own set, with a radius calibrated on real images.

    Mode collapse by duplication hides from distances of distributions: a few good images, repeated, keep mean
    and spread (scripts/bench/defects.py). Real frames of one organ look alike too, so the radius comes from
    pairs of real images of different groups: a pair of n images may come as near by chance as a share
    ``quantile / (n - 1)`` of the real pairs does. An image drawn as the real ones are then has a chance of
    about `quantile` or less to be taken for a duplicate, however many images there are.

    The share depends on n (of more images more have a twin), so compare sets of equal size. Its interval is
    for new sets of n images of the same generator: Wilson's at the effective size that gives a share the
    variance of the delete-one jackknife, which is not too small on average (Efron and Stein 1981). No
    bootstrap: it makes duplicates.

    Args:
        features: of the images that are judged, shape (n, d).
        real: features of real images, shape (m, d), of the same encoder. m (m - 1) / 2 pairs must be more
            than ``(n - 1) / quantile`` for a radius: with 500 real images up to 1,200, at a quantile of 0.01.
        groups: of the real images, shape (m,): near-duplicates share one, and their pairs are left out.
        quantile: chance that an image which repeats nothing is called a duplicate.
        distance: ``cosine`` (1 - cosine) or ``euclidean``.
        level: coverage of the intervals.

    Returns:
        shares in [0, 1], lower is better. ``undefined`` below two images; ``unreliable`` below 16, and
        `share` without a radius.

    Raises:
        ValueError: wrong shapes, different widths, a NaN or infinity, a row of zeros (cosine), a group too
            many or too few, or a quantile outside 0 to 1.
    """
    if not 0 < quantile < 1:
        raise ArgumentError(f"quantile is {quantile!r}; expected a chance between 0 and 1, say 0.01")
    if distance not in ("cosine", "euclidean"):
        raise ArgumentError(f"distance is {distance!r}; expected 'cosine' or 'euclidean'")
    check_level(level)
    made, known = check_features(features, "features"), check_features(real, "real")
    if made.shape[1] != known.shape[1]:
        raise ArgumentError(
            f"features has {made.shape[1]} numbers an image and real {known.shape[1]}; "
            "both must come from the same encoder"
        )
    labels = group_numbers(groups, len(known), of="real")
    n = len(made)
    same = np.unique(made, axis=0, return_inverse=True)[1].ravel()
    if distance == "cosine":
        made, known = normalized(made, "features"), normalized(known, "real")
    radius = None if n < 2 else _radius(known, labels, quantile / (n - 1), distance)
    near = _Near(made, same, radius, distance)
    reach = "equal features alone: too few real images for a radius"
    if radius is not None:
        reach = f"{distance} distance below {radius:.4g}, {quantile:g} an image by chance between real images"
    exact = _Near(made, same, None, distance) if radius is not None else near
    return Duplicates(
        share=_share(near, f"share of images with a near-duplicate, {reach}", level, sure=radius is not None),
        exact=_share(exact, "share of images with an equal one in the set", level, sure=True),
        distance=near.distance,
        nearest=near.nearest,
        clusters=near.clusters(),
        radius=radius,
    )


def _radius(real: Matrix, labels: Indices, share: float, kind: str) -> float | None:
    """What at most this share of the pairs of different groups lies below; None: too few pairs to say."""
    sizes = np.bincount(labels, minlength=1)
    pairs = (len(real) ** 2 - int((sizes.astype(np.int64) ** 2).sum())) // 2
    rank = math.floor(share * (pairs + 1) + 1e-9)
    if rank < 1:
        return None
    lowest = np.empty(0)
    for start in range(0, len(real), BLOCK):
        stop = min(start + BLOCK, len(real))
        gaps = pair_distances(real[start:stop], real, kind)
        # each pair once, from its first row, and none within a group
        later = np.arange(len(real))[None, :] > np.arange(start, stop)[:, None]
        found = gaps[later & (labels[start:stop, None] != labels[None, :])]
        lowest = np.concatenate([lowest, found])
        if len(lowest) > rank:
            lowest = np.partition(lowest, rank - 1)[:rank]
    return float(np.sort(lowest)[rank - 1])


class _Near:
    """For each image how many others are near, the nearest one, and which images hang together."""

    def __init__(self, rows: Matrix, same: Indices, radius: float | None, kind: str) -> None:
        n = len(rows)
        self.count = np.zeros(n, dtype=np.int64)
        self.only = np.full(n, -1, dtype=np.intp)
        self.distance = np.full(n, np.inf)
        self.nearest = np.full(n, -1, dtype=np.intp)
        self.label = np.arange(n)
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            own = np.arange(start, stop)
            gaps = pair_distances(rows[start:stop], rows, kind)
            equal = same[start:stop, None] == same[None, :]
            gaps[equal] = 0.0  # rounding leaves a hair
            gaps[own - start, own] = np.inf
            close = equal if radius is None else equal | (gaps < radius)
            close[own - start, own] = False
            self.nearest[own] = gaps.argmin(axis=1)
            self.distance[own] = gaps.min(axis=1)
            self.count[own] = close.sum(axis=1)
            self.only[own] = np.where(self.count[own] == 1, close.argmax(axis=1), -1)
            for row in np.flatnonzero(self.count[own]):
                joined = np.unique(self.label[np.append(np.flatnonzero(close[row]), own[row])])
                if len(joined) > 1:
                    self.label[np.isin(self.label, joined)] = joined[0]
        if n < 2:
            self.distance, self.nearest = np.zeros(0), np.zeros(0, dtype=np.intp)

    def clusters(self) -> tuple[tuple[int, ...], ...]:
        names, sizes = np.unique(self.label, return_counts=True)
        several = [name for name, size in zip(names, sizes, strict=True) if size > 1]
        found = [tuple(int(i) for i in np.flatnonzero(self.label == name)) for name in several]
        return tuple(sorted(found, key=lambda rows: (-len(rows), rows)))


def _share(near: _Near, method: str, level: float, *, sure: bool) -> Estimate:
    n = len(near.count)
    if n < 2:
        return Estimate.undefined(n, method)
    from scipy.special import ndtri, stdtrit

    flagged = near.count > 0
    share = float(flagged.mean())
    status: Status = "ok" if sure and n >= RELIABLE_FROM else "unreliable"
    normal = float(ndtri((1 + level) / 2))
    if share == 0.0:  # what was not seen is a pair
        return Estimate(share, *wilson(share, n / 2, normal), n, method, status)
    if share == 1.0:
        return Estimate(share, *wilson(share, len(set(near.label.tolist())), normal), n, method, status)
    # without image j, those whose only near one it is are alone too
    lost = np.bincount(near.only[near.only >= 0], minlength=n)
    without = (flagged.sum() - flagged - lost) / (n - 1)
    variance = (n - 1) / n * float(np.sum((without - without.mean()) ** 2))
    size = share * (1 - share) / variance if variance > 0 else n / 2
    low, high = wilson(share, size, float(stdtrit(n - 1, (1 + level) / 2)))
    return Estimate(share, low, high, n, method, status)
