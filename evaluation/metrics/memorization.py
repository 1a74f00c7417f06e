"""Did the generator copy its training images? Nearest neighbors, calibrated on real images."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features
from evaluation.estimate import Estimate, check_level
from promptopt.base.errors import ArgumentError

Matrix = NDArray[np.float64]
Indices = NDArray[np.intp]

BLOCK = 1024
"""Rows of the distance matrix held at a time."""

_TINY = 1e-6
"""Distances count as this at least, in units of the median between held-out images: no ratio to 0, and an
image at 0 from both sets is no more one's copy than the other's."""


@dataclass(frozen=True)
class Pair:
    """A generated image and the training image nearest to it; both by their row."""

    generated: int
    training: int
    distance: float
    ratio: float
    p_value: float
    copy: bool


@dataclass(frozen=True, eq=False)
class Memorization:
    """What `memorization` found.

    Attributes:
        share: of generated images flagged as copies, Wilson's interval. Of images that are no copies, up to
            `quantile` are flagged too.
        nearest: shape (n,), row of the nearest training image.
        distance, held_out_distance: shape (n,), to it and to the nearest held-out image.
        ratio: shape (n,), the first over the second; below 1 the training image is the nearer one.
        p_value: shape (n,), share of real held-out images (the image itself counted in) with a ratio as low.
        null_ratio: shape (m,), the same ratio of each held-out image, its own group left out.
        copies: rows flagged, those of the lowest ratio first.
        closest: the pairs of the lowest ratio, copies or not.
        quantile: of `null_ratio` below which a ratio counts as a copy's.
        threshold: a ratio below it is flagged; None where too few held-out images allow no flag at all.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> training, held_out = rng.normal(size=(60, 8)), rng.normal(size=(40, 8))
        >>> generated = np.concatenate([training[:1], rng.normal(size=(9, 8))])
        >>> found = memorization(generated, training, held_out, quantile=0.05)
        >>> int(found.copies[0]), int(found.nearest[0])
        (0, 0)
    """

    share: Estimate
    nearest: Indices
    distance: Matrix
    held_out_distance: Matrix
    ratio: Matrix
    p_value: Matrix
    null_ratio: Matrix
    copies: Indices
    closest: tuple[Pair, ...]
    quantile: float
    threshold: float | None


def memorization(
    generated: ArrayLike,
    training: ArrayLike,
    held_out: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    quantile: float = 0.01,
    distance: Literal["cosine", "euclidean"] = "cosine",
    pairs: int = 16,
    level: float = 0.95,
) -> Memorization:
    """Nearest training image of each generated one, and how much nearer it is than real images ever are.

    The ratio of an image is its distance to the nearest training image over that to the nearest held-out one.
    Two real frames of one organ look alike too, so the ratio is calibrated: held-out images have never been
    trained on, and their ratios (their own group left out of the denominator) show what chance gives. An
    image is flagged when its conformal p-value, ``(1 + number of held-out ratios <= its own) / (m + 1)``, is
    at most `quantile`. The chance to flag an image that is drawn as the held-out ones are is then about
    `quantile` or less.

    A space that is blind to a change cannot see a copy behind it; which space finds crops, flips, noise and
    JPEG is measured by scripts/bench/memorization.py. To look for changed copies, give training and held-out
    features of several views of each image (flipped, cropped …): the nearest view counts. Best there:
    `ThumbnailEncoder` with `copy_views` (evaluation/encoders/thumbnail.py).

    Args:
        generated: features, shape (n, d).
        training: features of what the generator was trained on, shape (t, d) or (views, t, d), the image as
            it is as first view.
        held_out: features of real images it has never seen, of the same kind; as many views as `training`.
        groups: of the held-out images, shape (m,): near-duplicates (frames of one scene) share one. Without
            it each is its own group, and near-duplicates within the set make more false alarms.
        quantile: chance of a false alarm per image; with fewer than ``1 / quantile - 1`` held-out images
            nothing can be flagged.
        distance: ``cosine`` (1 - cosine) or ``euclidean``.
        pairs: number of pairs in `closest`.
        level: coverage of the interval of `share`.

    Returns:
        `share` is ``undefined`` for no generated image or too few held-out ones, ``unreliable`` below 10.

    Raises:
        ValueError: wrong shapes, a NaN or infinity, another number of views, no training image, fewer than
            two held-out groups, or a row of zeros (cosine).
    """
    if not 0 < quantile < 1:
        raise ArgumentError(f"quantile is {quantile!r}; expected a chance between 0 and 1, say 0.01")
    if distance not in ("cosine", "euclidean"):
        raise ArgumentError(f"distance is {distance!r}; expected 'cosine' or 'euclidean'")
    if pairs < 0:
        raise ArgumentError(f"pairs is {pairs}; expected 0 or more")
    check_level(level)
    made = check_features(generated, "generated")
    trained, real = _views(training, "training"), _views(held_out, "held_out")
    labels = group_numbers(groups, real.shape[1], of="held-out")
    if not made.shape[1] == trained.shape[2] == real.shape[2]:
        raise ArgumentError(
            f"generated has {made.shape[1]} features an image, training {trained.shape[2]} and held_out "
            f"{real.shape[2]}; all must come from the same encoder"
        )
    if len(trained) != len(real):
        raise ArgumentError(f"training has {len(trained)} views and held_out {len(real)}; give both the same")
    if trained.shape[1] == 0 or len(np.unique(labels)) < 2:
        raise ArgumentError(
            f"{trained.shape[1]} training images and {len(np.unique(labels))} held-out groups; "
            "one and two are the least"
        )
    if distance == "cosine":
        made, trained, real = _unit(made, "generated"), _unit(trained, "training"), _unit(real, "held_out")

    null_near, _ = _nearest(real[0], trained, distance)
    null_far, _ = _nearest(real[0], real, distance, own=labels)
    floor = _TINY * float(np.median(null_far))
    null = _ratio(null_near, null_far, floor)
    near, nearest = _nearest(made, trained, distance)
    far, _ = _nearest(made, real, distance)
    ratio = _ratio(near, far, floor)

    m = len(null)
    ranked = np.sort(null)
    p_value = (1 + np.searchsorted(ranked, ratio, side="right")) / (m + 1)
    allowed = math.floor(quantile * (m + 1) + 1e-9) - 1  # held-out ratios that may lie at or below a copy's
    threshold = None if allowed < 0 else float(ranked[allowed])
    order = np.argsort(ratio, kind="stable")
    copies = order[:0] if threshold is None else order[ratio[order] < threshold]
    flagged = set(copies.tolist())
    closest = tuple(
        Pair(int(i), int(nearest[i]), float(near[i]), float(ratio[i]), float(p_value[i]), int(i) in flagged)
        for i in order[:pairs]
    )
    method = f"share of copies, {distance} ratio below the {quantile:g} quantile of {m} held-out images"
    n = len(made)
    share = (
        Estimate.undefined(n, method)
        if threshold is None or n == 0
        else Estimate.of_proportion(len(copies), n, level=level, method=method)
    )
    return Memorization(share, nearest, near, far, ratio, p_value, null, copies, closest, quantile, threshold)


def _views(features: ArrayLike, name: str) -> Matrix:
    """(views, images, features); each view checked as features are."""
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 3:
        return check_features(array, name)[None]
    if len(array) == 0:
        raise ArgumentError(f"{name} has shape {array.shape}; expected one view or more")
    return np.stack([check_features(view, f"{name}, view {i}") for i, view in enumerate(array)])


def _unit(x: Matrix, name: str) -> Matrix:
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    zero = np.argwhere(lengths[..., 0] == 0)
    if len(zero):
        raise ArgumentError(f"{name}: row {zero[0][-1]} is all zeros and has no direction; check its image")
    return np.asarray(x / lengths, dtype=np.float64)


def group_numbers(groups: Sequence[Hashable] | None, count: int, *, of: str) -> Indices:
    """A number for each image's group; without groups each image is its own."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ArgumentError(f"groups has {len(groups)} entries for {count} {of} images; give one each")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)


def _nearest(x: Matrix, views: Matrix, kind: str, *, own: Indices | None = None) -> tuple[Matrix, Indices]:
    """Distance to, and row of, the nearest image under any view; with `own`, the same group is skipped."""
    best, index = np.full(len(x), np.inf), np.zeros(len(x), dtype=np.intp)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        for view in views:
            gaps = pair_distances(x[rows], view, kind)
            if own is not None:
                gaps[own[rows][:, None] == own[None, :]] = np.inf
            found = gaps.argmin(axis=1)
            values = gaps[np.arange(len(found)), found]
            better = values < best[rows]
            best[rows] = np.where(better, values, best[rows])
            index[rows] = np.where(better, found, index[rows])
    return best, index


def pair_distances(a: Matrix, b: Matrix, kind: str) -> Matrix:
    """Distance of each row of a to each row of b; for ``cosine`` rows of length 1."""
    if kind == "cosine":
        return np.clip(1.0 - a @ b.T, 0.0, 2.0)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0.0))


def _ratio(near: Matrix, far: Matrix, floor: float) -> Matrix:
    least = max(floor, np.finfo(np.float64).tiny)
    return np.asarray(np.maximum(near, least) / np.maximum(far, least), dtype=np.float64)
