"""Real and synthetic images as the learners of a proof read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.classifier.engine import REAL_TEST, View
from evaluation.classifier.images import ClassifierError, LabeledImages, check_disjoint
from evaluation.classifier.learners import Learner, ProbeLearner
from evaluation.classifier.network import NetworkLearner, read_pixels
from evaluation.classifier.small_network import SmallNetwork
from promptopt.augmentation.filters import members
from promptopt.augmentation.proof.proof import BOTH, ELSEWHERE
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
    elsewhere: Dataset | None = None,
) -> list[View]:
    """One view for each learner: trained on in pool `reference`, tested on in `test`, and each variant's set.

    Args:
        folders: of `make_sets`; a class is read from the first folder that holds it.
        learners: "network" (small, on pixels), "probe", or an architecture of torchvision or timm, trained
            from scratch or, as ``resnet18=FILE``, from weights.
        size: side of the networks' pictures in pixels.
        encoder, features: of the probe.
        elsewhere: what the generator was trained on: its pool `reference`, without what is tested on, is a
            set of training images too.

    Raises:
        AugmentationError: an unknown learner, a probe without encoder, or a set that lacks a class.
    """
    check_learners(learners)
    views = []
    for name in learners:
        if name == PROBE:
            if encoder is None or features is None:
                raise AugmentationError("the probe needs an encoder and a feature store")
            learner: Learner = ProbeLearner()
            read: _Read = partial(features.features, encoder)
        else:
            learner = SmallNetwork(steps=steps) if name == NETWORK else _architecture(name, steps)
            read = partial(read_pixels, size=size)
        views.append(_view(sources, data, folders, learner, read, elsewhere))
    return views


def _architecture(name: str, steps: int) -> NetworkLearner:
    """Without augmentation of its own: that is what arms with classical augmentation have."""
    architecture, _, weights = name.partition("=")
    return NetworkLearner(architecture=architecture, steps=steps, weights=weights or None, augmentation=0)


def _view(
    sources: Sequence[ClassSource],
    data: Dataset,
    folders: Mapping[str, Sequence[Path]],
    learner: Learner,
    read: _Read,
    elsewhere: Dataset | None,
) -> View:
    test = _real(sources, data, "test", read)
    synthetic = {name: _synthetic(sources, name, paths, read) for name, paths in folders.items()}
    if elsewhere is not None:
        other = _real(sources, elsewhere, "reference", read)
        check_disjoint({"the generator's training images": other}, {"real test": test})
        first = next(iter(synthetic.values()))
        synthetic |= {ELSEWHERE: other, BOTH: other.joined(first)}
    return View(
        learner=learner,
        real=_real(sources, data, "reference", read),
        test={REAL_TEST: test},
        synthetic=synthetic,
    )


def _real(sources: Sequence[ClassSource], data: Dataset, pool: str, read: _Read) -> LabeledImages:
    parts = {s.name: members(data, s.positives)[0].where(pool=pool) for s in sources}
    records = [(name, record) for name, part in parts.items() for record in part]
    return LabeledImages(
        read([data.path(record) for _, record in records]),
        tuple(name for name, _ in records),
        tuple(record.group for _, record in records),
        tuple(record.center for _, record in records),
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
    """Refuse an unknown learner before any image is made (AugmentationError, ClassifierError)."""
    if not names:
        raise AugmentationError(f"--classifiers is empty; use {', '.join(LEARNERS)}, or an architecture")
    for name in names:
        if name not in LEARNERS:
            try:
                _architecture(name, 1)
            except ClassifierError as error:
                raise AugmentationError(f"--classifiers: {error}; or use {', '.join(LEARNERS)}") from error


def proof_notes(data: Dataset, left_out: Sequence[str], *, elsewhere: Dataset | None = None) -> list[str]:
    """What a reader must know of a proof's setting."""
    used = len(data.where(pool="reference"))
    trained = len(elsewhere.where(pool="reference")) if elsewhere is not None else 0
    return [
        *(
            [
                f"the generator was trained on {trained} real images; the arms {ELSEWHERE!r} train the "
                "classifier on these too, so that both have seen the same"
            ]
            if trained
            else []
        ),
        f"prompts, filters and, where it was fine-tuned on them, generator have seen all {used} real images "
        "of the pool 'reference'; few real images here are few for the classifier alone",
        "trained alike in all arms: the same steps, nothing stopped early or chosen by its score",
        "p is corrected for the ratios of a question (Holm); an interval is not and holds by itself",
        *left_out,
    ]
