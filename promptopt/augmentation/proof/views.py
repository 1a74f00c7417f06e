"""Real and synthetic images as the learners of a proof read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.classifier.engine import REAL_TEST, View
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.learners import Learner, ProbeLearner
from evaluation.classifier.network import read_pixels
from evaluation.classifier.small_network import SmallNetwork
from promptopt.augmentation.filters import members
from promptopt.augmentation.sources import AugmentationError, ClassSource
from promptopt.augmentation.writers import slug
from studies.dataset import METADATA, Dataset

if TYPE_CHECKING:
    import numpy as np

    from evaluation.encoders.base import Encoder
    from evaluation.features.feature_store import FeatureStore

NETWORK, PROBE = "network", "probe"
LEARNERS = (NETWORK, PROBE)

_Read = Callable[[Sequence[Path]], "np.ndarray"]


def proof_views(
    sources: Sequence[ClassSource],
    data: Dataset,
    folders: Mapping[str, Sequence[Path]],
    *,
    learners: Sequence[str] = LEARNERS,
    size: int = 64,
    steps: int = 150,
    encoder: Encoder | None = None,
    features: FeatureStore | None = None,
) -> list[View]:
    """One view for each learner: trained on in pool `reference`, tested on in `test`, and each variant's set.

    Args:
        folders: of `make_sets`; a class is read from the first folder that holds it.
        size: side of the network's pictures in pixels.
        encoder, features: of the probe.

    Raises:
        AugmentationError: an unknown learner, a probe without encoder, or a set that lacks a class.
    """
    check_learners(learners)
    views = []
    for name in learners:
        if name == NETWORK:
            views.append(
                _view(
                    sources, data, folders, SmallNetwork(steps=steps), lambda paths: read_pixels(paths, size)
                )
            )
        elif encoder is None or features is None:
            raise AugmentationError("the probe needs an encoder and a feature store")
        else:
            encode = partial(features.features, encoder)
            views.append(_view(sources, data, folders, ProbeLearner(), encode))
    return views


def _view(
    sources: Sequence[ClassSource],
    data: Dataset,
    folders: Mapping[str, Sequence[Path]],
    learner: Learner,
    read: _Read,
) -> View:
    real = {}
    for pool in ("reference", "test"):
        parts = {s.name: members(data, s.positives)[0].where(pool=pool) for s in sources}
        records = [(name, record) for name, part in parts.items() for record in part]
        real[pool] = LabeledImages(
            read([data.path(record) for _, record in records]),
            tuple(name for name, _ in records),
            tuple(record.group for _, record in records),
            tuple(record.center for _, record in records),
        )
    return View(
        learner=learner,
        real=real["reference"],
        test={REAL_TEST: real["test"]},
        synthetic={name: _synthetic(sources, name, paths, read) for name, paths in folders.items()},
    )


def _synthetic(
    sources: Sequence[ClassSource], variant: str, folders: Sequence[Path], read: _Read
) -> LabeledImages:
    found: dict[str, list[Path]] = {}
    for folder in folders:
        own: dict[str, list[Path]] = {}
        with (folder / METADATA).open(encoding="utf-8") as stream:
            for line in stream:
                name = json.loads(line)["file_name"]
                own.setdefault(name.split("/", 1)[0], []).append(folder / name)
        for group, paths in own.items():
            found.setdefault(group, paths)
    labels, paths = [], []
    for source in sources:
        images = found.get(slug(source.name), [])
        if not images:
            raise AugmentationError(
                f"{folders[0]}: the {variant} set has no image of the class {source.name!r}: the filters "
                "refused all; leave one out (--filters), or raise --attempts"
            )
        labels += [source.name] * len(images)
        paths += images
    return LabeledImages.of(read(paths), labels, name=f"synthetic-{variant}", center="synthetic")


def check_learners(names: Sequence[str]) -> None:
    """Refuse an unknown learner before any image is made (AugmentationError)."""
    for name in names:
        if name not in LEARNERS:
            raise AugmentationError(f"--classifiers: {name!r} does not exist; use {', '.join(LEARNERS)}")
    if not names:
        raise AugmentationError(f"--classifiers is empty; use {', '.join(LEARNERS)}")


def proof_notes(data: Dataset, left_out: Sequence[str]) -> list[str]:
    """What a reader must know of a proof's setting."""
    used = len(data.where(pool="reference"))
    return [
        f"prompts, filters and, where it was fine-tuned on them, generator have seen all {used} real images "
        "of the pool 'reference'; few real images here are few for the classifier alone",
        "trained alike in all arms: the same steps, nothing stopped early or chosen by its score",
        "p is corrected for the ratios of a question (Holm); an interval is not and holds by itself",
        *left_out,
    ]
