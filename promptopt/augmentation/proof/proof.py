"""Does an augmentation set help? Classifiers trained with and without it, tested on held-out real images."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.images import ClassifierError, LabeledImages, check_disjoint
from evaluation.classifier.learners import Learner
from evaluation.classifier.paired_seeds import Difference, Resampling, Scored
from evaluation.estimate import Estimate
from evaluation.inference.bootstrap import holm
from promptopt.augmentation.proof.sets import PORTFOLIO
from promptopt.augmentation.sources import AugmentationError
from promptopt.base.files import write_bytes

RATIOS = (0.5, 1.0, 2.0)
_CACHE = ".prove"

ALONE, BESIDE, CLASSICAL, AGAINST = "synthetic", "beside classical", "classical", "against"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What a classifier is trained on besides the real images: nothing, or more."""

    classical: bool = False
    variant: str | None = None
    ratio: float | None = None

    @property
    def title(self) -> str:
        """As in the tables."""
        words = ["real"] + ["classical"] * self.classical
        if self.variant is not None:
            words.append(f"{self.variant} 1:{self.ratio:g}")
        return " + ".join(words)


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """Balanced accuracy on the real test images, mean over the seeds."""

    learner: str
    real_per_class: int | None
    arm: Arm
    train_real: int
    train_synthetic: int
    estimate: Estimate
    by_seed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm minus another, in the same learner and with the same real images.

    Attributes:
        question: "synthetic" (with the portfolio's images, minus real alone), "beside classical" (the same,
            both with classical augmentation), "classical" (it alone), or "against" (portfolio minus another
            choice of prompts).
        p_holm: adjusted over the ratios of the same question, learner and number of real images.
    """

    question: str
    learner: str
    real_per_class: int | None
    first: Arm
    second: Arm
    estimate: Estimate
    p: float | None
    p_holm: float | None

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "no difference shown", at 5 % after Holm."""
        value = self.estimate.value
        if self.p_holm is None or value is None or self.p_holm >= 0.05:
            return "no difference shown"
        return "better" if value > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All results, with the settings that made them and notes on what they can say."""

    classes: tuple[str, ...]
    test_images: int
    test_groups: int
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """All images as one learner reads them.

    Attributes:
        plain: trains without classical augmentation; classical: with it, None where it means nothing.
        train, test: real images.
        synthetic: by variant.
    """

    plain: Learner
    classical: Learner | None
    train: LabeledImages
    test: LabeledImages
    synthetic: Mapping[str, LabeledImages]


def prove(
    views: Sequence[View],
    out: Path,
    *,
    real_per_class: Sequence[int | None] = (None,),
    ratios: Sequence[float] = RATIOS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    resamples: int = 2000,
    level: float = 0.95,
    notes: Sequence[str] = (),
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Proof:
    """Train every arm with every seed, and compare.

    A seed decides which real images and which synthetic ones are drawn, the network's start and its batches;
    all arms of a seed share the real images, so comparisons are paired by seed, and by test group. Every
    training makes the same number of steps. Trained results lie in OUT/.prove by what they were trained on:
    the same call trains nothing twice.

    Args:
        views: one a learner; the first one's answer is the main one.
        real_per_class: real training images of each class; None: all.
        ratios: synthetic images for each real one.
        seeds: different numbers.
        notes: said beside the results.
        on_progress: called with trainings done, trainings in all, and what is trained.

    Raises:
        AugmentationError: too few real or synthetic images.
        ClassifierError: a class that a set lacks, or a group in training and test.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise AugmentationError(f"seeds is {list(seeds)}; give different numbers")
    if not ratios or not all(0 < ratio < float("inf") for ratio in ratios):
        raise AugmentationError(f"ratios is {list(ratios)}; give numbers above 0, say 0.5,1,2")
    first = views[0]
    classes = sorted(set(first.train.labels))
    _check(views, classes, real_per_class)
    cache = out / _CACHE
    cache.mkdir(parents=True, exist_ok=True)
    variants = list(first.synthetic)
    plans = [(view, _plan(view, variants, ratios)) for view in views]
    total = sum(len(plan) for _, plan in plans) * len(seeds) * len(real_per_class)
    done, arms, compared, short = 0, [], [], set()
    for view, plan in plans:
        truth = np.array([classes.index(label) for label in view.test.labels])
        resampling = Resampling(
            truth, view.test.groups, classes=classes, seeds=len(seeds), resamples=resamples, level=level
        )
        for count in real_per_class:
            scored: dict[Arm, Scored] = {}
            for arm in plan:
                said = []
                for seed in seeds:
                    images, made = _training(view, arm, classes, count, seed)
                    wanted = 0 if arm.ratio is None else round(arm.ratio * (len(images) - made))
                    if abs(made - wanted) > len(classes):
                        short.add(f"{arm.title}, {count or 'all'} real: {made} of {wanted} images")
                    learner = view.classical if arm.classical else view.plain
                    assert learner is not None  # the plan has no such arm
                    said.append(_trained(cache, learner, images, view.test, classes, seed))
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total, f"{view.plain.name}, {count or 'all'} real: {arm.title}")
                scored[arm] = resampling.score(said)
                arms.append(
                    ArmResult(
                        learner=view.plain.name,
                        real_per_class=count,
                        arm=arm,
                        train_real=len(images) - made,
                        train_synthetic=made,
                        estimate=resampling.estimate(scored[arm]),
                        by_seed=tuple(round(float(v), 6) for v in scored[arm].values),
                    )
                )
            compared += _compare(resampling, scored, view.plain.name, count, variants, ratios)
    shortage = [f"fewer synthetic images than the ratio asks for: {text}" for text in sorted(short)]
    return Proof(
        classes=tuple(classes),
        test_images=len(first.test),
        test_groups=len(set(first.test.groups)),
        arms=tuple(arms),
        comparisons=tuple(compared),
        settings={
            "seeds": list(seeds),
            "ratios": [float(ratio) for ratio in ratios],
            "real_per_class": list(real_per_class),
            "resamples": resamples,
            "level": level,
            "learners": {view.plain.name: dict(view.plain.settings()) for view in views},
        },
        notes=(*notes, *shortage),
    )


def _check(views: Sequence[View], classes: Sequence[str], counts: Sequence[int | None]) -> None:
    for view in views:
        check_disjoint({"real training": view.train}, {"real test": view.test})
        for name, images in (("training", view.train), ("test", view.test), *view.synthetic.items()):
            if missing := sorted(set(classes) - set(images.labels)):
                raise ClassifierError(f"{name}: no image of the class {missing[0]!r}")
    if len(classes) < 2:
        raise ClassifierError(
            f"there is one class, {classes[0]!r}; a classifier needs two: add the run of another study, or a "
            'class by hand (--class normal="a colonoscopy image of normal mucosa")'
        )
    for name in classes:
        there = views[0].train.labels.count(name)
        for count in counts:
            if count is not None and not 2 <= count <= there:
                raise AugmentationError(
                    f"real_per_class: {count} images of {name!r} are asked for; give 2 to {there}, the "
                    "number in the pool 'reference'"
                )


def _plan(view: View, variants: Sequence[str], ratios: Sequence[float]) -> list[Arm]:
    plan = [Arm()] + [Arm(variant=name, ratio=ratio) for name in variants for ratio in ratios]
    if view.classical is not None:
        plan += [Arm(classical=True)]
        plan += [Arm(classical=True, variant=PORTFOLIO, ratio=ratio) for ratio in ratios]
    return plan


def _training(
    view: View, arm: Arm, classes: Sequence[str], count: int | None, seed: int
) -> tuple[LabeledImages, int]:
    """The images of one training, and how many of them are synthetic."""
    rows: list[int] = []
    drawn: list[int] = []
    for place, name in enumerate(classes):
        own = _of_class(view.train, name)
        chosen = np.random.default_rng([seed, 11, place]).permutation(own)[:count]
        rows += chosen.tolist()
        if arm.variant is not None and arm.ratio is not None:
            made = _of_class(view.synthetic[arm.variant], name)
            order = np.random.default_rng([seed, 12, place]).permutation(made)
            drawn += order[: round(arm.ratio * len(chosen))].tolist()
    real = view.train.take(sorted(rows))
    if arm.variant is None:
        return real, 0
    return real.joined(view.synthetic[arm.variant].take(sorted(drawn))), len(drawn)


def _of_class(images: LabeledImages, name: str) -> NDArray[np.int64]:
    return np.flatnonzero([label == name for label in images.labels])


def _trained(
    cache: Path,
    learner: Learner,
    images: LabeledImages,
    test: LabeledImages,
    classes: Sequence[str],
    seed: int,
) -> NDArray[np.float64]:
    """Probabilities of the test images, from the cache where the same training was made before."""
    from importlib.metadata import version

    truth = np.array([classes.index(label) for label in images.labels])
    said = [learner.name, dict(learner.settings()), seed, list(classes), version("torch"), version("numpy")]
    digest = hashlib.sha256(json.dumps(said).encode())
    for array in (images.inputs, truth, test.inputs):
        digest.update(np.ascontiguousarray(array).tobytes())
    path = cache / f"{digest.hexdigest()}.npy"
    if path.exists():
        found: NDArray[np.float64] = np.load(path, allow_pickle=False)
        return found
    predict = learner.fit(images.inputs, truth, classes=len(classes), seed=seed, on_step=lambda: None)
    result = predict(test.inputs)
    buffer = io.BytesIO()
    np.save(buffer, result, allow_pickle=False)
    write_bytes(path, buffer.getvalue())
    return result


def _compare(
    resampling: Resampling,
    scored: Mapping[Arm, Scored],
    learner: str,
    count: int | None,
    variants: Sequence[str],
    ratios: Sequence[float],
) -> list[Comparison]:
    families: list[tuple[str, list[tuple[Arm, Arm]]]] = [
        (ALONE, [(Arm(variant=PORTFOLIO, ratio=ratio), Arm()) for ratio in ratios])
    ]
    if Arm(classical=True) in scored:
        beside = [(Arm(classical=True, variant=PORTFOLIO, ratio=r), Arm(classical=True)) for r in ratios]
        families += [(CLASSICAL, [(Arm(classical=True), Arm())]), (BESIDE, beside)]
    for name in variants:
        if name != PORTFOLIO:
            pairs = [(Arm(variant=PORTFOLIO, ratio=r), Arm(variant=name, ratio=r)) for r in ratios]
            families.append((AGAINST, pairs))
    found = []
    for question, pairs in families:
        differences: list[Difference] = [
            resampling.difference(scored[first], scored[second]) for first, second in pairs
        ]
        adjusted = iter(holm([d.p for d in differences if d.p is not None]))
        for (first, second), one in zip(pairs, differences, strict=True):
            found.append(
                Comparison(
                    question=question,
                    learner=learner,
                    real_per_class=count,
                    first=first,
                    second=second,
                    estimate=one.estimate,
                    p=one.p,
                    p_holm=None if one.p is None else next(adjusted),
                )
            )
    return found


def to_dict(proof: Proof) -> dict[str, Any]:
    """A JSON document."""
    arms = [
        {**asdict(one.arm), "title": one.arm.title, **_plain(one, ("arm", "estimate")),
         "estimate": one.estimate.to_dict()}
        for one in proof.arms
    ]  # fmt: skip
    comparisons = [
        {**_plain(one, ("first", "second", "estimate")), "first": one.first.title, "second": one.second.title,
         "ratio": one.first.ratio, "estimate": one.estimate.to_dict(), "verdict": one.verdict}
        for one in proof.comparisons
    ]  # fmt: skip
    return {
        "format": "promptopt-proof",
        "version": 1,
        **_plain(proof, ("arms", "comparisons")),
        "arms": arms,
        "comparisons": comparisons,
    }


def _plain(value: Any, without: Sequence[str]) -> dict[str, Any]:
    return {key: own for key, own in vars(value).items() if key not in without}
