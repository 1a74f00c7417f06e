"""Train on real or synthetic images, test on real or synthetic ones: five arms, several ratios and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.classifier.engine import REAL_TEST, Arm, OnProgress, View, train_arms
from evaluation.classifier.images import ClassifierError, LabeledImages, check_classes, check_disjoint
from evaluation.classifier.learners import Learner, ProbeLearner
from evaluation.classifier.results import ArmsResult
from evaluation.classifier.summary import Family, summarize
from evaluation.estimate import check_level
from promptopt.base.errors import ArgumentError

ARMS = ("R->R", "S->R", "R+S->R", "S->S", "R->S")
ALIASES = {"R->R": "TRTR", "S->R": "TSTR", "S->S": "TSTS", "R->S": "TRTS"}
"""Train (T) on real (R) or synthetic (S) images, test (T) on either (Esteban et al. 2017)."""
RATIOS = (0.5, 1.0, 2.0)
FROM_REAL = "difference from R->R"
_TRAIN, _SYNTHETIC_TEST = "synthetic_train", "synthetic_test"


def five_arms(
    real_train: LabeledImages,
    real_test: LabeledImages,
    *,
    synthetic_train: LabeledImages,
    synthetic_test: LabeledImages | None = None,
    learner: Learner | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    ratios: Sequence[float] = RATIOS,
    arms: Sequence[str] = ARMS,
    by_center: bool = False,
    resamples: int = 2000,
    level: float = 0.95,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> ArmsResult:
    """What synthetic images are worth to a classifier, in the units of real ones.

    - **R->R** (TRTR) real on real, the ceiling without synthetic images; what the others are compared with.
    - **S->R** (TSTR) synthetic on real (classification accuracy score, Ravuri and Vinyals 2019,
      arXiv:1905.10887).
    - **R+S->R** real with ``ratio`` synthetic images for each real one; a larger ratio holds the smaller.
    - **S->S** (TSTS) synthetic on held-out synthetic: high beside a low S->R, the images are separable by
      something that real ones do not show.
    - **R->S** (TRTS) the classifier trained on real images reads the synthetic ones: are they what they are
      labeled?

    Nothing is selected: every training runs its fixed number of steps, the same in all arms whatever the
    number of images, and the test images are looked at once. Scores are means over the seeds; a seed decides
    the start and the batches of a network and which synthetic images an arm R+S->R takes. Intervals are for
    new images and new seeds (`evaluation.classifier.summary`). Differences from R->R use the same draws on
    both sides.

    Args:
        real_train, real_test: disjoint by group; the pools ``reference`` and ``test`` of a prepared data set.
        synthetic_train: trained on in S->R, S->S and R+S->R.
        synthetic_test: disjoint by group from both training sets; needed by S->S and R->S alone.
        learner: `ProbeLearner` (default) on features, `NetworkLearner` on pixels.
        seeds: one training each; different numbers. Below three, what depends on them is ``unreliable``.
        ratios: of R+S->R, each more than 0; needs that many times `real_train` in `synthetic_train`.
        arms: those wanted; R->R is always there. Synthetic images of one class alone can be in R+S->R.
        by_center: also the scores on the test images of each center of `real_test` (the challenge's "single"
            and "multi" center; ``all`` is its "both"). The arms tested on synthetic images appear for a
            center that `synthetic_test` has too.
        resamples: bootstrap replicates.
        level: coverage of the intervals.
        cache: folder of what was trained; the same call trains nothing twice.
        on_progress: called with steps done, steps in all, and what is trained.

    Raises:
        ClassifierError: a group on both sides, a class that a training or test set lacks, one class only,
            an empty set, too few synthetic images for a ratio, or sets of different inputs.
        ValueError: an unknown arm, a ratio, seeds or a level that make no sense.
    """
    learner = ProbeLearner() if learner is None else learner
    wanted = _check(arms, ratios, seeds, level)
    if by_center and "all" in {*real_test.centers, *(synthetic_test.centers if synthetic_test else ())}:
        raise ClassifierError(
            "a center is named 'all', which is what all centers together are called; rename it"
        )
    plan = [arm for name in wanted for arm in _arms(name, ratios)]
    training, test = {"real_train": real_train}, {REAL_TEST: real_test}
    if any(arm.synthetic for arm in plan):
        training[_TRAIN] = synthetic_train
    if any(arm.test == _SYNTHETIC_TEST for arm in plan):
        if synthetic_test is None:
            raise ClassifierError(
                "synthetic_test: the arms S->S and R->S are tested on synthetic images; "
                "hold some out (LabeledImages.split), or leave these arms out"
            )
        test[_SYNTHETIC_TEST] = synthetic_test
    _check_inputs({**training, **test})
    check_disjoint(training, test)
    classes = check_classes(_each_alone(plan, training), test)
    _check_supply(plan, len(real_train), len(synthetic_train))
    view = View(learner=learner, real=real_train, synthetic={_TRAIN: synthetic_train}, test=test)
    trained = train_arms([view], plan, classes=classes, seeds=seeds, cache=cache, on_progress=on_progress)
    rows, comparisons = summarize(
        trained,
        test,
        classes=classes,
        seeds=seeds,
        families=[Family(FROM_REAL, tuple((arm, plan[0]) for arm in plan[1:]))],
        by_center=by_center,
        resamples=resamples,
        level=level,
    )
    return ArmsResult(
        classes=tuple(classes),
        settings={
            "learner": learner.name,
            "learner_settings": dict(learner.settings()),
            "seeds": list(seeds),
            "ratios": [arm.ratio for arm in plan if arm.ratio is not None],
            "resamples": resamples,
            "level": level,
            "real_train": len(real_train),
            "real_test": len(real_test),
            "synthetic_train": len(synthetic_train),
            "synthetic_test": 0 if synthetic_test is None else len(synthetic_test),
        },
        rows=rows,
        comparisons=comparisons,
    )


def _arms(name: str, ratios: Sequence[float]) -> list[Arm]:
    """The arm, once for each ratio where it has one."""
    left, right = name.split("->")
    synthetic = _TRAIN if "S" in left else None
    test = REAL_TEST if right == "R" else _SYNTHETIC_TEST
    return [
        Arm(
            name=name,
            alias=ALIASES.get(name, ""),
            real="R" in left,
            synthetic=synthetic,
            ratio=ratio,
            test=test,
        )
        for ratio in (dict.fromkeys(map(float, ratios)) if left == "R+S" else [None])
    ]


def _check(arms: Sequence[str], ratios: Sequence[float], seeds: Sequence[int], level: float) -> list[str]:
    for arm in arms:
        if arm not in ARMS:
            raise ArgumentError(f"arms: {arm!r} does not exist; use {', '.join(ARMS)}")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ArgumentError(f"seeds is {list(seeds)}; give one or more different numbers, 0 or more")
    for ratio in ratios:
        if not 0 < ratio < float("inf"):
            raise ArgumentError(
                f"ratios: {ratio} synthetic images for a real one; give numbers above 0, say 0.5"
            )
    if "R+S->R" in arms and not ratios:
        raise ArgumentError("ratios is empty; R+S->R needs one or more, or leave the arm out")
    check_level(level)
    return [arm for arm in ARMS if arm in arms or arm == "R->R"]


def _each_alone(arms: Sequence[Arm], training: Mapping[str, LabeledImages]) -> dict[str, LabeledImages]:
    """The sets that must hold every class: in R+S->R synthetic images may lack one that real ones hold."""
    sets = dict(training)
    if _TRAIN in sets and all(arm.real for arm in arms):
        sets[f"real_train with {_TRAIN}"] = sets["real_train"].joined(sets.pop(_TRAIN))
    return sets


def _check_inputs(sets: Mapping[str, LabeledImages]) -> None:
    shapes = {name: images.inputs.shape[1:] for name, images in sets.items()}
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise ClassifierError(
                f"an image is {shapes[first]} in {first} and {shape} in {name}; "
                "use one encoder, or one size, for all sets"
            )


def _check_supply(arms: Sequence[Arm], real: int, there: int) -> None:
    for arm in arms:
        if arm.ratio is not None and not 0 < round(arm.ratio * real) <= there:
            raise ClassifierError(
                f"ratios: {arm.ratio:g} synthetic for each of {real} real training images are "
                f"{round(arm.ratio * real)}, and there are {there}; generate more, or choose a ratio up to "
                f"{there / real:.3g}"
            )
