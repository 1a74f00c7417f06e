"""Did the generator copy? The confirmation's images beside the real ones that they are nearest to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.encoders.thumbnail import ThumbnailEncoder, ThumbnailViewsEncoder
from evaluation.metrics.memorization import memorization
from promptopt.formatting.numbers import format_estimate, number
from promptopt.study.report.pictures import embed, embed_file

if TYPE_CHECKING:
    from evaluation.estimate import Estimate
    from evaluation.features.feature_store import FeatureStore
    from generators.store import StoredImage
    from studies.dataset import Dataset

PAIRS = 6
"""Pairs shown, each of another real image."""


@dataclass(frozen=True)
class LikePair:
    """A generated picture and the real one nearest to it, both as data addresses."""

    generated: str
    real: str
    prompt: str
    caption: str
    copy: bool


@dataclass(frozen=True)
class Likeness:
    """The nearest pairs, flagged ones first, and what they say."""

    sentence: str
    pairs: tuple[LikePair, ...]


def nearest_pairs(
    data: Dataset, features: FeatureStore, images: Sequence[tuple[str, StoredImage]]
) -> Likeness | None:
    """Look up images, each with its prompt, among the reference pool's; None where these are too few.

    As in `Measuring.copies`: thumbnails, whole, cropped and mirrored, calibrated on the validation pool.
    """
    seen, strange = data.where(pool="reference"), data.where(pool="validation")
    groups = [record.group for record in strange]
    if not len(seen) or len(set(groups)) < 2 or not images:
        return None
    encoder = ThumbnailViewsEncoder()
    known, held_out = (encoder.unfold(features.features(encoder, p.paths())) for p in (seen, strange))
    made = features.features(ThumbnailEncoder(), [image for _, image in images])
    found = memorization(made, known, held_out, groups=groups, pairs=len(made))
    paths, used, pairs = seen.paths(), set(), []
    for pair in found.closest:
        if pair.training in used:
            continue
        used.add(pair.training)
        prompt, image = images[pair.generated]
        caption = f"ratio {number(pair.ratio)}, distance {number(pair.distance)}"
        pairs.append(
            LikePair(embed(image.load()), embed_file(paths[pair.training]), prompt, caption, pair.copy)
        )
        if len(pairs) == PAIRS:
            break
    return Likeness(_sentence(found.threshold, found.share, found.null_ratio, len(made)), tuple(pairs))


def _sentence(threshold: float | None, share: Estimate, null: np.ndarray, count: int) -> str:
    low, middle = np.quantile(null, [0.01, 0.5])
    said = (
        f"Each of the {count} confirmation images was compared with all real images of the reference pool "
        "(which the generator may have been trained on), also cropped and mirrored. The ratio is its "
        "distance to the nearest of them over that to the nearest real image that nobody trained on; a copy "
        "has a ratio near 0. Real images that are certainly no copies have a median ratio of "
        f"{number(float(middle))}, and 1 in 100 is below {number(float(low))}."
    )
    if threshold is None:
        return said + f" These {len(null)} real images are too few to call anything a copy."
    return said + f" Share of images flagged as copies: {format_estimate(share)}."
