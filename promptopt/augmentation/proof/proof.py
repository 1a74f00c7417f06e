"""Does an augmentation set help? Which classifiers are trained with and without it, and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.classifier.engine import REAL_TEST, Arm, View, train_arms
from evaluation.classifier.images import ClassifierError, check_disjoint
from evaluation.classifier.results import MAIN, ArmRow, ArmsResult, Comparison
from evaluation.classifier.summary import Family, summarize
from promptopt.augmentation.sources import AugmentationError

RATIOS = (0.5, 1.0, 2.0)
_CACHE = ".prove"

ALONE, BESIDE, CLASSICAL, AGAINST = "synthetic", "beside classical", "classical", "against"
AGAINST_BESIDE, ELSEWHERE = "against, beside classical", "generator's images"
"""Questions: the first set's images minus real alone; the same, both with classical augmentation; classical
augmentation alone; the first set minus another choice of prompts; the same, both with classical augmentation;
the real images that the generator was trained on, as training images, and the first set beside them."""

BOTH = f"{ELSEWHERE} + set"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All results, and notes on what they can say."""

    result: ArmsResult
    notes: tuple[str, ...]


Rare = tuple[tuple[str, int], ...]


def arm(
    *,
    per_class: int | None,
    classical: bool = False,
    variant: str | None = None,
    ratio: float | None = None,
    rare: Rare = (),
) -> Arm:
    """What a classifier is trained on besides the real images: nothing, or more."""
    words = ["real", *["classical"] * classical, *([] if variant is None else [variant])]
    return Arm(
        name=" + ".join(words),
        per_class=per_class,
        rare=rare,
        synthetic=variant,
        ratio=ratio,
        by_class=True,
        classical=classical,
    )


def prove(
    views: Sequence[View],
    out: Path,
    *,
    real_per_class: Sequence[int | None] = (None,),
    rare: Mapping[str, int] | None = None,
    ratios: Sequence[float] = RATIOS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    resamples: int = 2000,
    level: float = 0.95,
    notes: Sequence[str] = (),
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Proof:
    """Train every arm with every seed (`evaluation.classifier.engine`), and compare.

    Trained results lie in OUT/.prove by what they were trained on: the same call trains nothing twice.

    Args:
        views: one a learner, with a set of synthetic images for each variant; the first one's answer is the
            main one. Sets by the names ELSEWHERE and BOTH are taken whole, whatever the ratios.
        real_per_class: real training images of each class; None: all.
        rare: class -> real training images of it at most, whatever `real_per_class`; it gets as many
            synthetic images as the others.
        ratios: synthetic images for each real one.
        seeds: different numbers.
        notes: said beside the results.
        on_progress: called with steps done, steps in all, and what is trained.

    Raises:
        AugmentationError: too few real or synthetic images.
        ClassifierError: a class that a set lacks, or a group in training and test.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise AugmentationError(f"seeds is {list(seeds)}; give different numbers")
    if not ratios or not all(0 < ratio < float("inf") for ratio in ratios):
        raise AugmentationError(f"ratios is {list(ratios)}; give numbers above 0, say 0.5,1,2")
    classes = sorted(set(views[0].real.labels))
    few = tuple(sorted((rare or {}).items()))
    _check(views, classes, real_per_class, dict(few))
    elsewhere = ELSEWHERE in views[0].synthetic
    variants = [name for name in views[0].synthetic if name not in (ELSEWHERE, BOTH)]
    arms = [one for count in real_per_class for one in _plan(count, variants, ratios, elsewhere, few)]
    trained = train_arms(
        views, arms, classes=classes, seeds=seeds, cache=out / _CACHE, on_progress=on_progress
    )
    rows, comparisons = summarize(
        trained,
        views[0].test,
        classes=classes,
        seeds=seeds,
        families=[o for count in real_per_class for o in _families(count, variants, ratios, elsewhere, few)],
        resamples=resamples,
        level=level,
    )
    settings = {
        "seeds": list(seeds),
        "ratios": [float(ratio) for ratio in ratios],
        "real_per_class": list(real_per_class),
        **({"rare": dict(few)} if few else {}),
        "resamples": resamples,
        "level": level,
        "learners": {view.learner.name: dict(view.learner.settings()) for view in views},
    }
    result = ArmsResult(classes=tuple(classes), settings=settings, rows=rows, comparisons=comparisons)
    said = [
        f"of {name} {count} real images train at most, and as many synthetic ones as of the other classes"
        for name, count in few
    ]
    return Proof(result=result, notes=(*notes, *said, *_shortage(rows, len(classes))))


def _check(
    views: Sequence[View], classes: Sequence[str], counts: Sequence[int | None], rare: Mapping[str, int]
) -> None:
    for view in views:
        test = view.test[REAL_TEST]
        check_disjoint({"real training": view.real}, {"real test": test})
        for name, images in (("training", view.real), ("test", test), *view.synthetic.items()):
            if missing := sorted(set(classes) - set(images.labels)):
                raise ClassifierError(f"{name}: no image of the class {missing[0]!r}")
    if len(classes) < 2:
        raise ClassifierError(
            f"there is one class, {classes[0]!r}; a classifier needs two: add the run of another study, or a "
            'class by hand (--class normal="a colonoscopy image of normal mucosa")'
        )
    if unknown := sorted(set(rare) - set(classes)):
        raise AugmentationError(f"rare: no class is called {unknown[0]!r}; there are {', '.join(classes)}")
    for name in classes:
        there = views[0].real.labels.count(name)
        for count in [rare[name]] if name in rare else counts:
            if count is not None and not 2 <= count <= there:
                raise AugmentationError(
                    f"real_per_class: {count} images of {name!r} are asked for; give 2 to {there}, the "
                    "number in the pool 'reference'"
                )


def _plan(
    count: int | None, variants: Sequence[str], ratios: Sequence[float], elsewhere: bool, rare: Rare
) -> list[Arm]:
    """Without classical augmentation, then with it."""
    arms = []
    for classical in (False, True):
        arms.append(arm(per_class=count, rare=rare, classical=classical))
        arms += [
            arm(per_class=count, rare=rare, classical=classical, variant=name, ratio=ratio)
            for name in variants
            for ratio in ratios
        ]
        if elsewhere:
            arms += [
                arm(per_class=count, rare=rare, classical=classical, variant=name)
                for name in (ELSEWHERE, BOTH)
            ]
    return arms


def _families(
    count: int | None, variants: Sequence[str], ratios: Sequence[float], elsewhere: bool, rare: Rare
) -> list[Family]:
    def over(name: str, *, classical: bool = False) -> list[Arm]:
        return [arm(per_class=count, rare=rare, classical=classical, variant=name, ratio=r) for r in ratios]

    first, *others = variants
    real, classical = arm(per_class=count, rare=rare), arm(per_class=count, rare=rare, classical=True)
    families = [
        Family(ALONE, tuple((one, real) for one in over(first))),
        Family(CLASSICAL, ((classical, real),)),
        Family(BESIDE, tuple((one, classical) for one in over(first, classical=True))),
    ]
    for question, beside in ((AGAINST, False), (AGAINST_BESIDE, True)):
        for name in others:
            pairs = zip(over(first, classical=beside), over(name, classical=beside), strict=True)
            families.append(Family(question, tuple(pairs)))
    if elsewhere:
        for beside in (False, True):
            alone, both = (
                arm(per_class=count, rare=rare, classical=beside, variant=name) for name in (ELSEWHERE, BOTH)
            )
            families.append(Family(ELSEWHERE, ((alone, classical if beside else real), (both, alone))))
    return families


def _shortage(rows: Sequence[ArmRow], classes: int) -> list[str]:
    short = {
        f"{row.title}, {row.arm.per_class or 'all'} real: {row.train_synthetic} of {wanted} images"
        for row in rows
        if row.arm.ratio is not None
        and not row.arm.rare
        and abs(row.train_synthetic - (wanted := round(row.arm.ratio * row.train_real))) > classes
    }
    return [f"fewer synthetic images than the ratio asks for: {text}" for text in sorted(short)]


def to_dict(proof: Proof) -> dict[str, Any]:
    """A JSON document; `estimate` is the balanced accuracy, `estimates` every metric's."""
    result = proof.result
    return {
        "format": "promptopt-proof",
        "version": 1,
        "classes": list(result.classes),
        "test_images": result.rows[0].test_images,
        "test_groups": result.rows[0].test_groups,
        "settings": dict(result.settings),
        "notes": list(proof.notes),
        "arms": [_arm_dict(row) for row in result.rows],
        "comparisons": [_comparison_dict(one) for one in result.comparisons],
    }


def _arm_dict(row: ArmRow) -> dict[str, Any]:
    return {
        "classical": row.arm.classical,
        "variant": row.arm.synthetic,
        "ratio": row.arm.ratio,
        "title": row.title,
        "learner": row.learner,
        "real_per_class": row.arm.per_class,
        "train_real": row.train_real,
        "train_synthetic": row.train_synthetic,
        "by_seed": [round(run.estimates[MAIN].value or 0.0, 6) for run in row.runs],
        "estimate": row.estimates[MAIN].to_dict(),
        "estimates": _plain(row.estimates),
    }


def _comparison_dict(one: Comparison) -> dict[str, Any]:
    main = one.differences[MAIN]
    return {
        "question": one.question,
        "learner": one.learner,
        "real_per_class": one.first.per_class,
        "p": main.p,
        "p_holm": main.p_holm,
        "first": one.first.title,
        "second": one.second.title,
        "ratio": one.first.ratio,
        "estimate": main.estimate.to_dict(),
        "verdict": main.verdict,
        "differences": _plain(one.differences),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.to_dict() for name, value in values.items()}
