"""What generated images are worth to a classifier of real ones, in one encoder's space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.arms import ALIASES, five_arms
from evaluation.classifier.images import ClassifierError, LabeledImages
from evaluation.classifier.learners import ProbeLearner
from evaluation.encoders.base import Encoder
from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore, Progress, told
from evaluation.features.image_set import ImageSet
from evaluation.inference.bootstrap import GroupBootstrap
from evaluation.inference.intervals import FEWEST_GROUPS, interval_estimate
from evaluation.report.slices import ALL, Part
from evaluation.report.table import Row
from promptopt.base.files import file_digest

RESAMPLES = 2000
_ARMS = {
    "R->R": ("", "trained on real images, tested on real ones"),
    "S->R": ("higher", "trained on generated images, tested on real ones"),
    "R->S": ("higher", "trained on real images, tested on generated ones"),
}


def classifier_rows(
    encoder: Encoder,
    label: str,
    generated: ImageSet,
    training: ImageSet,
    held_out: ImageSet,
    parts: Sequence[Part],
    *,
    store: FeatureStore,
    level: float,
    seed: int,
    on_progress: Progress | None = None,
) -> list[Row]:
    """Balanced accuracies of a linear probe that tells the categories apart; for a category, its recalls.

    Real images are trained on in `training`, tested on in the pool ``test`` of `held_out` (all of it, where
    it has no pools). A center or a cell has no rows: their test images are too few as a rule, and
    `promptopt classify --by center` shows them.
    """
    tested = held_out.of_pools("test") if "test" in held_out.pools else held_out
    sets = {}
    for name, images in (("real training", training), ("real test", tested), ("generated", generated)):
        note = f"classifier, {label}: {name}"
        features = store.features(encoder, images.paths, on_progress=told(on_progress, note, len(images)))
        sets[name] = _labeled(features, images)
    train, test, made = sets.values()
    found: dict[tuple[str, str], Estimate] = {}
    why = {}
    for arm in _ARMS:
        try:
            _refuse_copies(training, tested, generated)
            if arm == "R->S":
                found.update(_read_by_real(train, made, level=level, seed=seed))
                continue
            # R->R stands in every result; generated images may lack what S->R needs
            arms = () if arm == "R->R" else (arm,)
            scores = five_arms(
                train, test, synthetic_train=made, arms=arms, seeds=(seed,), resamples=RESAMPLES, level=level
            )
            estimates = scores.row(arm).estimates
            found[arm, ALL] = estimates["balanced_accuracy"]
            found.update({(arm, name): estimates[f"recall:{name}"] for name in scores.classes})
        except ClassifierError as error:
            why[arm] = str(error)
    rows = []
    for part in parts:
        key, _, value = part.name.partition("=")
        if part.name != ALL and (key != "category" or "," in part.name):
            continue
        for arm, (better, meaning) in _ARMS.items():
            estimate = found.get((arm, value or ALL))
            if estimate is None:
                reason = why.get(arm, "no such image to test on")
                estimate = Estimate.undefined(0, f"{arm}, {meaning}: {reason}")
            what = f"recall of {value}" if value else "balanced accuracy"
            name = f"{arm} ({ALIASES[arm]}) {what} ({label})"
            sizes = len(part.of_real), len(part.of_generated)
            rows.append(
                Row("classifier", name, encoder.uri, part.name, better, *sizes, part.marked(estimate))
            )
    return rows


def _labeled(features: NDArray[np.float32], images: ImageSet) -> LabeledImages:
    """Groups as the set knows them, or equal files; named after the folder, as names of two sets may meet."""
    groups = images.groups or tuple(file_digest(path) for path in images.paths)
    return LabeledImages(
        features,
        images.columns["category"],
        tuple(f"{images.root}:{group}" for group in groups),
        images.columns.get("center", ("unknown",) * len(images)),
    )


def _refuse_copies(training: ImageSet, tested: ImageSet, generated: ImageSet) -> None:
    seen = {file_digest(path): path for path in tested.paths}
    for path in (*training.paths, *generated.paths):
        if (copy := seen.get(file_digest(path))) is not None:
            raise ClassifierError(f"{copy} is tested on and is the same file as {path}; remove one of them")


def _read_by_real(
    train: LabeledImages, made: LabeledImages, *, level: float, seed: int
) -> dict[tuple[str, str], Estimate]:
    """R->S: the probe trained on real images reads the generated ones, which may show one category alone."""
    classes = sorted(set(train.labels))
    if unknown := sorted(set(made.labels) - set(classes)):
        raise ClassifierError(
            f"generated: {unknown[0]!r} is no category of the real training images ({', '.join(classes)})"
        )
    if len(classes) < 2:
        raise ClassifierError(f"the real training images show {classes[0]!r} alone; a classifier needs two")
    truth = np.array([classes.index(name) for name in train.labels])
    predict = ProbeLearner().fit(train.inputs, truth, classes=len(classes), seed=seed, on_step=lambda: None)
    said = [classes[i] for i in predict(made.inputs).argmax(axis=1)]
    right = np.array([own == name for own, name in zip(said, made.labels, strict=True)], dtype=float)
    names = np.array(made.labels, dtype=object)
    found, shares = {}, []
    for name in sorted(set(made.labels)):
        own = made.take(np.flatnonzero(names == name))
        rows = right[names == name]
        draws = GroupBootstrap.draw(
            own.groups, own.labels, resamples=RESAMPLES, rng=np.random.default_rng([seed, 5])
        )
        drawn = draws.weights @ rows / draws.weights.sum(axis=1)
        shares.append((float(rows.mean()), drawn, draws))
        found["R->S", name] = interval_estimate(
            float(rows.mean()),
            float(drawn.var(ddof=1)),
            groups=draws.groups,
            reliable=draws.groups >= FEWEST_GROUPS,
            n=len(rows),
            freedom=draws.freedom,
            method=f"R->S recall of {name}, bootstrap over {draws.groups} groups of equal files",
            level=level,
        )
    fewest = min(draws.groups for _, _, draws in shares)
    found["R->S", ALL] = interval_estimate(
        float(np.mean([share for share, _, _ in shares])),
        float(np.mean([drawn for _, drawn, _ in shares], axis=0).var(ddof=1)),
        groups=fewest,
        reliable=fewest >= FEWEST_GROUPS,
        n=len(made),
        freedom=sum(draws.freedom for _, _, draws in shares),
        method=f"R->S balanced accuracy over the categories {', '.join(sorted(set(made.labels)))}",
        level=level,
    )
    return found
