"""The confirmation of sets: fresh seeds, real images of the test pool, another encoder, a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from evaluation.classifier.engine import REAL_TEST, Arm, View, train_arms
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.network import read_pixels
from evaluation.classifier.results import ArmRow
from evaluation.classifier.small_network import SmallNetwork
from evaluation.classifier.summary import Family, summarize
from evaluation.encoders.base import Encoder
from evaluation.estimate import Estimate
from evaluation.inference.multiple_testing import holm
from evaluation.metrics import alignment
from evaluation.metrics.diversity import diversity
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.mmd import mmd
from generators.store import StoredImage
from promptopt.config.sets import ClassifierSettings
from promptopt.scoring.closeness import closeness_difference
from promptopt.scoring.objective import study_bandwidth
from promptopt.space import Candidate
from promptopt.study.sets.methods import Chosen, choose, method_prompts
from promptopt.study.sets.opening import SetSetup
from promptopt.study.sets.search import ClassSearch
from studies.dataset import CLAIM_FROM

FIRST = "set"

Metric = Literal["closeness", "second_encoder", "accuracy"]
Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One method minus another: MMD^2 to held-out real images (less is better), or balanced accuracy."""

    label: str
    first: str
    second: str
    metric: Metric
    estimate: Estimate
    p_value: float
    p_adjusted: float = 1.0
    enough: bool = True

    @property
    def verdict(self) -> Verdict:
        """What may be claimed, after Holm's correction over all comparisons by the same measure."""
        value = self.estimate.value
        if not self.enough or value is None or self.p_adjusted >= 0.05:
            return "unclear"
        return "better" if (value > 0) == (self.metric == "accuracy") else "worse"


@dataclass(frozen=True, eq=False, kw_only=True)
class ConfirmedClass:
    """One class: images of each method on fresh seeds, and what was measured of them.

    Attributes:
        images: method -> one image a seed.
        closeness, second: method -> MMD^2 to the test pool in the search's encoder, and in another.
        metrics: method -> further metrics by name.
    """

    label: str
    chosen: Chosen
    prompts: Mapping[str, Sequence[Candidate]]
    images: Mapping[str, Sequence[StoredImage]]
    closeness: Mapping[str, Estimate]
    second: Mapping[str, Estimate]
    metrics: Mapping[str, Mapping[str, Estimate]]
    compared: Sequence[Compared]


@dataclass(frozen=True, eq=False, kw_only=True)
class Confirmation:
    """All classes, and the classifier; `compared` has every comparison, corrected together."""

    classes: Mapping[str, ConfirmedClass]
    accuracy: Mapping[str, ArmRow] = field(default_factory=dict)
    compared: Sequence[Compared] = ()

    def of(self, label: str, metric: Metric, second: str, *, first: str = FIRST) -> Compared | None:
        """One comparison, None where there was none."""
        for one in self.compared:
            if (one.label, one.metric, one.first, one.second) == (label, metric, first, second):
                return one
        return None


def confirm_sets(
    setup: SetSetup,
    searches: Mapping[str, ClassSearch],
    *,
    cache: Path,
    on_phase: Callable[[str], None],
    on_training: Callable[[int, int, str], None] | None = None,
    given: Mapping[str, Mapping[str, Sequence[Candidate]]] | None = None,
) -> Confirmation:
    """Draw every method's images on the confirmation seeds and compare the set with each.

    Args:
        cache: folder of trained classifiers' results.
        given: label -> method -> one candidate a seed, for further methods (captions, an oracle).
    """
    config = setup.config
    classes = {}
    for label, one in searches.items():
        on_phase(f"confirming the set of {label} on fresh seeds")
        chosen = choose(one, most=config.set.prompts, seed=setup.first.panel.metrics)
        classes[label] = _class(one, chosen, extra=(given or {}).get(label, {}))
    compared = [c for one in classes.values() for c in one.compared]
    accuracy: dict[str, ArmRow] = {}
    if config.confirm.classifier is not None and len(classes) > 1:
        on_phase("training classifiers on real images and each kind of set")
        accuracy, more = _classifier(
            config.confirm.classifier, searches, classes, cache=cache, on_training=on_training
        )
        compared += more
    return Confirmation(classes=classes, accuracy=accuracy, compared=corrected(compared))


def corrected(compared: Sequence[Compared]) -> list[Compared]:
    """With p-values adjusted over all comparisons by the same measure, which is one question (Holm)."""
    found = list(compared)
    for metric in dict.fromkeys(one.metric for one in found):
        places = [i for i, one in enumerate(found) if one.metric == metric]
        for place, p in zip(places, holm([found[i].p_value for i in places]), strict=True):
            found[place] = replace(found[place], p_adjusted=p)
    return found


def _class(one: ClassSearch, chosen: Chosen, *, extra: Mapping[str, Sequence[Candidate]]) -> ConfirmedClass:
    setup, measuring = one.setup, one.measuring
    seeds = setup.panel.confirmation
    prompts = {
        **method_prompts(one, chosen, count=len(seeds), seed=setup.panel.metrics),
        **{name: list(candidates) for name, candidates in extra.items()},
    }
    asked = [
        (candidate, (seed,)) for row in prompts.values() for candidate, seed in zip(row, seeds, strict=True)
    ]
    fetched = iter(measuring.fetch(asked))
    images = {name: [next(fetched)[0] for _ in row] for name, row in prompts.items()}
    closeness, compared = _distances(one, images, setup.encoder, "closeness", one.bandwidth)
    second: dict[str, Estimate] = {}
    if setup.second is not None:
        real = measuring.real("reference", setup.second).positives
        base = measuring.features.features(setup.second, one.images[one.baseline])
        second, more = _distances(one, images, setup.second, "second_encoder", study_bandwidth(real, base))
        compared += more
    return ConfirmedClass(
        label=one.label,
        chosen=chosen,
        prompts=prompts,
        images=images,
        closeness=closeness,
        second=second,
        metrics={name: _metrics(one, own) for name, own in images.items()},
        compared=compared,
    )


def _distances(
    one: ClassSearch,
    images: Mapping[str, Sequence[StoredImage]],
    encoder: Encoder,
    metric: Metric,
    bandwidth: float,
) -> tuple[dict[str, Estimate], list[Compared]]:
    paths = one.measuring.as_seen(one.setup.positives.where(pool="test").paths())
    real = one.measuring.features.features(encoder, paths)
    own = {name: one.measuring.features.features(encoder, row) for name, row in images.items()}
    values = {name: mmd(features, real, bandwidth=bandwidth) for name, features in own.items()}
    compared = []
    for first, second in pairs(list(own)):
        found = closeness_difference(own[first], own[second], real, bandwidth=bandwidth)
        compared.append(
            Compared(
                label=one.label,
                first=first,
                second=second,
                metric=metric,
                estimate=found.estimate,
                p_value=found.p_value,
                enough=min(len(own[first]), len(real)) >= CLAIM_FROM,
            )
        )
    return values, compared


def pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared: the set with every other method, and the learned template with the baseline."""
    found = [(FIRST, other) for other in methods if other != FIRST]
    return [*found, ("learned", "baseline")] if "learned" in methods else found


def _metrics(one: ClassSearch, images: Sequence[StoredImage]) -> dict[str, Estimate]:
    assert one.book is not None
    features = one.measuring.features.features(one.setup.encoder, images)
    real = one.measuring.features.features(one.setup.encoder, one.setup.positives.where(pool="test").paths())
    found = {
        "margin": Estimate.of_mean(one.book.margin(features)),
        "frechet": frechet_distance(features, real),
        "diversity": diversity(features),
        "copies": one.measuring.copies(images),
    }
    if one.setup.config.closeness.through != "nothing":
        found["closeness_as_they_are"] = mmd(features, real, bandwidth=one.bandwidth)
    if one.book.class_weights is not None:
        probabilities = alignment.probabilities(features, one.book.class_weights)
        found["inception_score"] = inception_score(probabilities, splits=1, seed=one.setup.panel.metrics)
    return found


def _classifier(
    settings: ClassifierSettings,
    searches: Mapping[str, ClassSearch],
    classes: Mapping[str, ConfirmedClass],
    *,
    cache: Path,
    on_training: Callable[[int, int, str], None] | None,
) -> tuple[dict[str, ArmRow], list[Compared]]:
    """A small network on pixels: real images of the reference pool alone, and with each method's images."""
    size = int(next(iter(searches.values())).setup.request(_any(classes), 0).width)
    methods = [
        name
        for name in next(iter(classes.values())).images
        if all(name in c.images for c in classes.values())
    ]
    view = View(
        learner=SmallNetwork(steps=settings.steps),
        real=_real(searches, "reference", size),
        test={REAL_TEST: _real(searches, "test", size)},
        synthetic={
            name: LabeledImages.of(
                read_pixels(
                    [i.path for c in classes.values() for i in c.images[name][: settings.images]], size
                ),
                [label for label, c in classes.items() for _ in c.images[name][: settings.images]],
                name=f"synthetic-{name}",
                center="synthetic",
            )
            for name in methods
        },
    )
    labels = sorted(classes)
    alone = Arm(name="real")
    arms = {name: Arm(name=f"real + {name}", synthetic=name) for name in methods}
    trained = train_arms(
        [view],
        [alone, *arms.values()],
        classes=labels,
        seeds=range(settings.seeds),
        cache=cache,
        on_progress=on_training,
    )
    questions = [(arms[a], arms[b]) for a, b in pairs(methods)] + [(arms[FIRST], alone)]
    rows, compared = summarize(
        trained,
        view.test,
        classes=labels,
        seeds=range(settings.seeds),
        families=[Family("sets", tuple(questions))],
    )
    names = {arm: name for name, arm in arms.items()} | {alone: "real"}
    test = len(view.test[REAL_TEST])
    return {names[row.arm]: row for row in rows}, [
        Compared(
            label="all classes",
            first=names[c.first],
            second=names[c.second],
            metric="accuracy",
            estimate=c.differences["balanced_accuracy"].estimate,
            p_value=p if (p := c.differences["balanced_accuracy"].p) is not None else 1.0,
            enough=test >= CLAIM_FROM,
        )
        for c in compared
    ]


def _real(searches: Mapping[str, ClassSearch], pool: str, size: int) -> LabeledImages:
    parts = {label: one.setup.positives.where(pool=pool) for label, one in searches.items()}
    records = [(label, record) for label, part in parts.items() for record in part]
    return LabeledImages(
        read_pixels([path for part in parts.values() for path in part.paths()], size),
        tuple(label for label, _ in records),
        tuple(record.group for _, record in records),
        tuple(record.center for _, record in records),
    )


def _any(classes: Mapping[str, ConfirmedClass]) -> Candidate:
    return next(iter(next(iter(classes.values())).prompts.values()))[0]
