"""Copies in sets of image files: of training images, and of each other, by thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.thumbnail import ThumbnailEncoder, ThumbnailViewsEncoder
from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore, Progress, told
from evaluation.features.image_set import ImageSet
from evaluation.metrics.duplicates import duplicates
from evaluation.metrics.memorization import Memorization, memorization
from evaluation.report.slices import ALL, Part
from evaluation.report.table import CopyPair, Row

PAIRS = 15
"""Closest pairs that are kept beside those flagged."""

MOST_REAL = 5000
"""Real images that calibrate the radius of duplicates; of more, a seeded sample."""


@dataclass(frozen=True)
class Copies:
    """Rows of the table, and the files they are about."""

    rows: tuple[Row, ...]
    pairs: tuple[CopyPair, ...] = ()


def training_copies(
    generated: ImageSet,
    training: ImageSet,
    held_out: ImageSet,
    parts: Sequence[Part],
    *,
    store: FeatureStore,
    level: float,
    on_progress: Progress | None = None,
) -> Copies:
    """Share of generated images flagged as copies of training images, for each part, and the closest pairs.

    Every image is looked up among all training images, whole, cropped and mirrored, and calibrated on all
    held-out ones; a part only takes its share of what was found.
    """
    known = ThumbnailViewsEncoder()
    views = [
        known.unfold(store.features(known, images.paths, on_progress=told(on_progress, note, len(images))))
        for note, images in (("copies: training", training), ("copies: held out", held_out))
    ]
    made = store.features(ThumbnailEncoder(), generated.paths)
    groups = held_out.groups or None
    try:
        found = memorization(made, *views, groups=groups, pairs=len(made), level=level)
    except ValueError as error:
        reason = f"copies of training images: {error}"
        return Copies(tuple(_row(part, "copies of training images", "lower", reason) for part in parts))
    kept = {pair.generated for pair in found.closest[:PAIRS]} | set(found.copies.tolist())
    pairs = tuple(
        CopyPair(
            str(generated.paths[pair.generated]),
            str(training.paths[pair.training]),
            pair.distance,
            pair.ratio,
            pair.p_value,
            pair.copy,
        )
        for pair in found.closest
        if pair.generated in kept
    )
    rows = [row for part in parts for row in _memorized(part, found, level)]
    return Copies(tuple(rows), pairs)


def _memorized(part: Part, found: Memorization, level: float) -> list[Row]:
    own = part.of_generated
    share = Estimate.undefined(len(own), found.share.method)
    if found.threshold is not None and len(own):
        flagged = int(np.isin(own, found.copies).sum())
        share = Estimate.of_proportion(flagged, len(own), level=level, method=found.share.method)
    method = "distance to the nearest training image over that to the nearest held-out one, geometric mean"
    null = _geometric(found.null_ratio, f"{method}, own group left out", level)
    return [
        _row(part, "copies of training images", "lower", share),
        _row(part, "distance to training / held-out images", "", _geometric(found.ratio[own], method, level)),
        _row(part, "the same of held-out images", "", null),
    ]


def _geometric(ratios: NDArray[np.float64], method: str, level: float) -> Estimate:
    logs = Estimate.of_mean(np.log(ratios), level=level, method=method)
    if logs.value is None:
        return logs
    value, low, high = (None if x is None else float(np.exp(x)) for x in (logs.value, logs.low, logs.high))
    return Estimate(value, low, high, logs.n, method, logs.status)


def own_copies(
    real: ImageSet,
    generated: ImageSet,
    parts: Sequence[Part],
    *,
    store: FeatureStore,
    level: float,
    seed: int,
    on_progress: Progress | None = None,
) -> tuple[tuple[Row, ...], tuple[tuple[str, ...], ...]]:
    """Share of generated images that repeat another one, for each part; the clusters among all of them."""
    encoder = ThumbnailEncoder()
    known, made = (
        store.features(encoder, images.paths, on_progress=told(on_progress, note, len(images)))
        for note, images in (("duplicates: real", real), ("duplicates: generated", generated))
    )
    rows: list[Row] = []
    clusters: tuple[tuple[str, ...], ...] = ()
    rng = np.random.default_rng(seed)
    for part in parts:
        calibrating = part.of_real
        if len(calibrating) > MOST_REAL:
            calibrating = np.sort(rng.choice(calibrating, size=MOST_REAL, replace=False))
        groups = [real.groups[i] for i in calibrating] if real.groups else None
        found = duplicates(made[part.of_generated], known[calibrating], groups=groups, level=level)
        rows.append(_row(part, "near-duplicates", "lower", found.share))
        rows.append(_row(part, "equal images", "lower", found.exact))
        if part.name == ALL:
            files = [str(path) for path in generated.paths]
            clusters = tuple(tuple(files[i] for i in cluster) for cluster in found.clusters)
    return tuple(rows), clusters


def _row(part: Part, name: str, better: str, estimate: Estimate | str) -> Row:
    metric = "duplicates" if name in ("near-duplicates", "equal images") else "memorization"
    sizes = len(part.of_real), len(part.of_generated)
    if isinstance(estimate, str):
        estimate = Estimate.undefined(sizes[1], estimate)
    return Row(metric, f"{name} (thumbnail)", "thumbnail", part.name, better, *sizes, part.marked(estimate))
