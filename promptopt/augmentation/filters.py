"""What keeps an image out of an augmentation set: black, of another class, a copy, a repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from evaluation.encoders.thumbnail import ThumbnailViewsEncoder
from promptopt.augmentation.copies import OwnCopies, TrainingCopies, radius_of, rounded
from promptopt.augmentation.pictures import EXTREMES, THUMBNAIL, Picture, decoded, features_of
from promptopt.augmentation.sources import AugmentationError, ClassSource

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.classifier.probe import Probe
    from evaluation.encoders.base import Encoder
    from evaluation.features.feature_store import FeatureStore
    from studies.dataset import Dataset

BLACK, JUDGE, MEMORIZATION, DUPLICATES = "black", "judge", "memorization", "duplicates"
FILTERS = (BLACK, JUDGE, MEMORIZATION, DUPLICATES)
"""In the order in which they look: an image counts for the first one that refuses it."""

QUANTILE = 0.01
"""Chance that an image which copies and repeats nothing is taken for a copy, and for a repetition."""

_MOST_REAL = 5000  # that calibrate the radius of repetitions; of more, a seeded sample
_DARK, _SAME = 3, 2  # levels of 255, as generators.stable_diffusion.pixels has them


@dataclass(frozen=True)
class Look:
    """What a filter says of n images: which may stay, and a score each (None: it has none)."""

    stays: list[bool]
    scores: list[float | None]


class Filter(Protocol):
    """Looks at images in their order. What it says of an image depends on those before it at most."""

    name: str

    def look(self, pictures: Sequence[Picture]) -> Look: ...


class BlackFilter:
    """Refuses images without a picture: no value over 3 of 255, or no channel that spans more than 2.

    The score is the widest span of a channel, in levels.
    """

    name = BLACK

    def look(self, pictures: Sequence[Picture]) -> Look:
        found = features_of(EXTREMES, pictures)
        low, high = found[:, :3], found[:, 3:]
        spans = (high - low).max(axis=1)
        stays = (high.max(axis=1) > _DARK) & (spans > _SAME)
        return Look(stays.tolist(), spans.tolist())


class NetworkFilter:
    """Refuses what the judge network reads as another category; the score is the class's probability."""

    name = JUDGE

    def __init__(self, judge: Judge, target: str) -> None:
        self._judge = judge
        self._target = list(judge.names["category"]).index(target)

    def look(self, pictures: Sequence[Picture]) -> Look:
        if not pictures:
            return Look([], [])
        chances = np.asarray(self._judge.read(decoded(pictures)).category_probabilities)
        stays = chances.argmax(axis=1) == self._target
        return Look(stays.tolist(), [rounded(value) for value in chances[:, self._target]])


class ProbeFilter:
    """Refuses what a probe trained on real reference images takes for another class; score: log-odds."""

    name = JUDGE

    def __init__(self, encoder: Encoder, probe: Probe, *, address: str = "") -> None:
        self._encoder, self._probe, self._address = encoder, probe, address

    def look(self, pictures: Sequence[Picture]) -> Look:
        if not pictures:
            return Look([], [])
        odds = self._probe.log_odds(features_of(self._encoder, pictures, address=self._address))
        return Look((odds > 0).tolist(), [rounded(value) for value in odds])


class MemorizationFilter:
    """Refuses copies of training images; the score is the ratio of distances that `memorization` has."""

    name = MEMORIZATION

    def __init__(self, copies: TrainingCopies) -> None:
        self._copies = copies

    def look(self, pictures: Sequence[Picture]) -> Look:
        ratios = self._copies.ratios(features_of(THUMBNAIL, pictures))
        return Look((ratios >= self._copies.threshold).tolist(), [rounded(ratio) for ratio in ratios])


class DuplicatesFilter:
    """Refuses repetitions of an image that is kept; the score is the cosine distance to the nearest.

    An image that it lets pass counts as kept, so it must be the last filter.
    """

    name = DUPLICATES

    def __init__(self, copies: OwnCopies) -> None:
        self._copies = copies

    def resume(self, kept: int, checksum: int, again: Callable[[], Iterator[Picture]]) -> None:
        """Forget all images but the first `kept`; `again` gives these where their features are damaged."""
        self._copies.resume(
            kept, checksum, lambda: (features_of(THUMBNAIL, [picture]) for picture in again())
        )

    @property
    def checksum(self) -> int:
        """Of the features of all images kept."""
        return self._copies.checksum

    def look(self, pictures: Sequence[Picture]) -> Look:
        if not pictures:
            return Look([], [])
        features = features_of(THUMBNAIL, pictures)
        nearest, among = self._copies.distances(features)
        stays: list[bool] = []
        scores: list[float | None] = []
        for row in range(len(pictures)):
            earlier = [other for other, stayed in enumerate(stays) if stayed]
            distance = min([float(nearest[row]), *(float(among[row, other]) for other in earlier)])
            stays.append(distance >= self._copies.radius)
            scores.append(rounded(distance) if np.isfinite(distance) else None)
        self._copies.keep(features[np.array(stays, dtype=bool)])
        return Look(stays, scores)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The real images that filters are calibrated on, and the networks that look.

    Attributes:
        data: a prepared data set; pool `reference` is what the generator was trained on.
        features: a store for the features of real images.
        encoder: of the probe; needed where `judge` is None or does not know a class.
        address: by which whoever makes images can load that encoder too.
        judge: the judge network, where the study names one.
        notices: what is to be said of the encoder at the start.
    """

    data: Dataset
    features: FeatureStore
    encoder: Encoder | None = None
    address: str = ""
    judge: Judge | None = None
    notices: tuple[str, ...] = ()


def members(data: Dataset, name: str) -> tuple[Dataset, Dataset]:
    """The records of a class, by category or else by label, and all others.

    Raises:
        AugmentationError: no record is of the class.
    """
    from studies.dataset import Dataset as Records

    key = "category" if any(record.category == name for record in data) else "label"
    own, others = (
        Records(data.root, tuple(r for r in data if (getattr(r, key) == name) is side), data.fingerprint)
        for side in (True, False)
    )
    if not len(own):
        known = sorted({record.category for record in data} | {record.label for record in data})
        raise AugmentationError(
            f"{data.root}: no image has the category or label {name!r}; there are {', '.join(known)}"
        )
    return own, others


def label_of(data: Dataset, name: str) -> tuple[str, str]:
    """(category, label) of the real images of a class; the class's own name where they have several."""
    own, _ = members(data, name)
    categories, labels = {record.category for record in own}, {record.label for record in own}
    return (
        categories.pop() if len(categories) == 1 else name,
        labels.pop() if len(labels) == 1 else name,
    )


def class_filters(
    source: ClassSource, wanted: Sequence[str], *, images: int, reference: Reference, work: Path
) -> list[Filter]:
    """The filters of one class, in the order of `FILTERS`.

    Args:
        wanted: names of `FILTERS`.
        images: that the class shall have; decides how near is too near.
        work: file for the features of kept images.

    Raises:
        AugmentationError: an unknown name, or real images that a filter lacks.
    """
    if unknown := sorted(set(wanted) - set(FILTERS)):
        raise AugmentationError(f"--filters: {unknown[0]!r} does not exist; use {', '.join(FILTERS)}")
    found: list[Filter] = []
    if BLACK in wanted:
        found.append(BlackFilter())
    if JUDGE in wanted:
        found.append(_judge(source, reference))
    if MEMORIZATION in wanted:
        found.append(_memorization(source, reference))
    if DUPLICATES in wanted:
        own = members(reference.data, source.positives)[0].where(pool="reference")
        own = _sample(own, _MOST_REAL)
        real = reference.features.features(THUMBNAIL, own.paths())
        radius = radius_of(real, [record.group for record in own], images=images, quantile=QUANTILE)
        found.append(DuplicatesFilter(OwnCopies(work, dim=THUMBNAIL.dim, radius=radius)))
    return found


def looks(
    sources: Sequence[ClassSource], wanted: Sequence[str], reference: Reference
) -> tuple[list[str], list[str]]:
    """Addresses of encoders whose features these filters read: of networks, and of those without one."""
    plain = [EXTREMES.uri] if BLACK in wanted else []
    if {MEMORIZATION, DUPLICATES} & set(wanted):
        plain.append(THUMBNAIL.uri)
    probed = JUDGE in wanted and any(not _judges(reference.judge, source) for source in sources)
    networks = [reference.address] if probed and reference.address else []
    return networks, plain


def _judges(judge: Judge | None, source: ClassSource) -> bool:
    return judge is not None and source.name in judge.names["category"]


def _judge(source: ClassSource, reference: Reference) -> Filter:
    if reference.judge is not None and _judges(reference.judge, source):
        return NetworkFilter(reference.judge, source.name)
    if reference.encoder is None:
        raise AugmentationError(
            f"class {source.name}: no judge knows it, and no encoder is given for a probe"
        )
    from evaluation.classifier.probe import fit_probe

    own, others = (part.where(pool="reference") for part in members(reference.data, source.positives))
    if min(len(own), len(others)) < 2:
        raise AugmentationError(
            f"class {source.name}: {len(own)} real images of it and {len(others)} others in the pool "
            "'reference', two of each are the least for the judge's probe; leave it out of --filters"
        )
    features = reference.features.features(reference.encoder, [*own.paths(), *others.paths()])
    labels = np.repeat([True, False], [len(own), len(others)])
    return ProbeFilter(reference.encoder, fit_probe(features, labels, seed=0), address=reference.address)


def _memorization(source: ClassSource, reference: Reference) -> Filter:
    known = ThumbnailViewsEncoder()
    training = reference.data.where(pool="reference")
    held_out = reference.data.where(pool=("validation", "test"))
    views = [known.unfold(reference.features.features(known, part.paths())) for part in (training, held_out)]
    try:
        groups = [record.group for record in held_out]
        return MemorizationFilter(TrainingCopies(*views, groups=groups, quantile=QUANTILE))
    except ValueError as error:
        raise AugmentationError(
            f"class {source.name}: memorization: {error}; leave it out of --filters"
        ) from error


def _sample(data: Dataset, most: int) -> Dataset:
    from studies.dataset import Dataset as Records

    if len(data) <= most:
        return data
    rows = np.sort(np.random.default_rng(0).choice(len(data), size=most, replace=False))
    return Records(data.root, tuple(data.records[i] for i in rows), data.fingerprint)
