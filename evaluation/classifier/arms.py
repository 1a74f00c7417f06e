"""Train on real or synthetic images, test on real or synthetic ones: five arms, several ratios and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.images import ClassifierError, LabeledImages, check_classes, check_disjoint
from evaluation.classifier.learners import Learner, ProbeLearner
from evaluation.classifier.results import ArmsResult
from evaluation.classifier.summary import Trained, summarize
from evaluation.estimate import check_level
from promptopt.base.errors import ArgumentError

ARMS = ("R->R", "S->R", "R+S->R", "S->S", "R->S")
RATIOS = (0.5, 1.0, 2.0)

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Training:
    """What one classifier is trained on: real images, synthetic ones, or both at a ratio."""

    real: bool
    synthetic: bool
    ratio: float | None = None

    @property
    def title(self) -> str:
        if self.ratio is not None:
            return f"R+S 1:{self.ratio:.3g}"
        return "R" if self.real else "S"


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
    on_progress: OnProgress | None = None,
) -> ArmsResult:
    """What synthetic images are worth to a classifier, in the units of real ones.

    - **R->R** real on real, the ceiling without synthetic images; what the others are compared with.
    - **S->R** synthetic on real (classification accuracy score, Ravuri and Vinyals 2019, arXiv:1905.10887).
    - **R+S->R** real with ``ratio`` synthetic images for each real one; a larger ratio holds the smaller.
    - **S->S** synthetic on held-out synthetic: high beside a low S->R, the images are separable by something
      that real ones do not show.
    - **R->S** the classifier trained on real images reads the synthetic ones: are they what they are
      labeled?

    Nothing is selected: every training runs its fixed number of steps, the same in all arms whatever the
    number of images, and the test images are looked at once. Scores are means over the seeds; a seed decides
    the start and the batches of a network and which synthetic images an arm R+S->R takes. Intervals resample
    the groups of test images and, independently, the seeds (pigeonhole bootstrap, Owen 2007), so they are
    for new images and new seeds. Differences from R->R use the same draws on both sides.

    Args:
        real_train, real_test: disjoint by group; the pools ``reference`` and ``test`` of a prepared data set.
        synthetic_train: trained on in S->R, S->S and R+S->R.
        synthetic_test: disjoint by group from both training sets; needed by S->S and R->S alone.
        learner: `ProbeLearner` (default) on features, `NetworkLearner` on pixels.
        seeds: one training each; different numbers.
        ratios: of R+S->R, each more than 0; needs that many times `real_train` in `synthetic_train`.
        arms: those wanted; R->R is always there. Synthetic images of one class alone can be in R+S->R.
        by_center: also the scores on the test images of each center of `real_test` (the challenge's "single"
            and "multi" center; ``all`` is its "both"). The arms tested on synthetic images appear for a
            center that `synthetic_test` has too.
        resamples: bootstrap replicates.
        level: coverage of the intervals.
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
    training, test = _sets(wanted, real_train, real_test, synthetic_train, synthetic_test)
    _check_inputs({**training, **test})
    check_disjoint(training, test)
    classes = check_classes(_each_alone(wanted, training), test)
    plan = _plan(wanted, ratios)
    _check_supply(plan, real_train, synthetic_train)
    fitted = _train_all(
        plan, learner, real_train, synthetic_train, test, classes=classes, seeds=seeds, tell=on_progress
    )
    rows: list[Trained] = []
    for arm in wanted:
        left, right = arm.split("->")
        for key in plan:
            if key.title.split()[0] == left:
                count = round(key.ratio * len(real_train)) if key.ratio is not None else len(synthetic_train)
                rows.append(
                    Trained(
                        arm=arm,
                        ratio=key.ratio,
                        train_real=len(real_train) * key.real,
                        train_synthetic=count * key.synthetic,
                        test="real_test" if right == "R" else "synthetic_test",
                        probabilities=fitted[key]["real_test" if right == "R" else "synthetic_test"],
                    )
                )
    return ArmsResult(
        classes=tuple(classes),
        settings={
            "learner": learner.name,
            "learner_settings": dict(learner.settings()),
            "seeds": list(seeds),
            "ratios": [key.ratio for key in plan if key.ratio is not None],
            "resamples": resamples,
            "level": level,
            "real_train": len(real_train),
            "real_test": len(real_test),
            "synthetic_train": len(synthetic_train),
            "synthetic_test": 0 if synthetic_test is None else len(synthetic_test),
        },
        rows=summarize(
            rows, test, classes=classes, seeds=seeds, by_center=by_center, resamples=resamples, level=level
        ),
    )


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


def _alone(arms: Sequence[str]) -> bool:
    """Whether synthetic images are trained on without real ones."""
    return "S->R" in arms or "S->S" in arms


def _sets(
    arms: Sequence[str],
    real_train: LabeledImages,
    real_test: LabeledImages,
    synthetic_train: LabeledImages,
    synthetic_test: LabeledImages | None,
) -> tuple[dict[str, LabeledImages], dict[str, LabeledImages]]:
    training, test = {"real_train": real_train}, {"real_test": real_test}
    if {"S->R", "R+S->R", "S->S"} & set(arms):
        training["synthetic_train"] = synthetic_train
    if {"S->S", "R->S"} & set(arms):
        if synthetic_test is None:
            raise ClassifierError(
                "synthetic_test: the arms S->S and R->S are tested on synthetic images; "
                "hold some out (LabeledImages.split), or leave these arms out"
            )
        test["synthetic_test"] = synthetic_test
    return training, test


def _each_alone(arms: Sequence[str], training: Mapping[str, LabeledImages]) -> dict[str, LabeledImages]:
    """The sets that must hold every class: in R+S->R synthetic images may lack one that real ones hold."""
    sets = dict(training)
    if "synthetic_train" in sets and not _alone(arms):
        sets["real_train with synthetic_train"] = sets["real_train"].joined(sets.pop("synthetic_train"))
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


def _plan(arms: Sequence[str], ratios: Sequence[float]) -> list[_Training]:
    plan = [_Training(True, False)]
    if _alone(arms):
        plan.append(_Training(False, True))
    if "R+S->R" in arms:
        plan += [_Training(True, True, float(ratio)) for ratio in dict.fromkeys(ratios)]
    return plan


def _check_supply(plan: Sequence[_Training], real: LabeledImages, synthetic: LabeledImages) -> None:
    for training in plan:
        if training.ratio is not None:
            asked = round(training.ratio * len(real))
            if not 0 < asked <= len(synthetic):
                raise ClassifierError(
                    f"ratios: {training.ratio:g} synthetic for each of {len(real)} real training images are "
                    f"{asked}, and there are {len(synthetic)}; generate more, or choose a ratio up to "
                    f"{len(synthetic) / len(real):.3g}"
                )


def _train_all(
    plan: Sequence[_Training],
    learner: Learner,
    real: LabeledImages,
    synthetic: LabeledImages,
    test: Mapping[str, LabeledImages],
    *,
    classes: Sequence[str],
    seeds: Sequence[int],
    tell: OnProgress | None,
) -> dict[_Training, dict[str, list[NDArray[np.float64]]]]:
    """Probabilities of every test set, one array a seed, for every training of the plan."""
    place = {label: index for index, label in enumerate(classes)}
    done, total = 0, len(plan) * len(seeds) * learner.steps
    fitted: dict[_Training, dict[str, list[NDArray[np.float64]]]] = {
        training: {name: [] for name in test} for training in plan
    }
    for seed in seeds:
        order = np.random.default_rng([seed, 1]).permutation(len(synthetic))
        for training in plan:
            # without seed and draw, the first seed's classifier is every seed's
            repeated = not learner.uses_seed and training.ratio is None and fitted[training]["real_test"]
            note = f"{training.title}, seed {seed}"
            if repeated:
                for arrays in fitted[training].values():
                    arrays.append(arrays[0])
                done += learner.steps
                _tell(tell, done, total, note)
                continue
            images = _training_images(training, real, synthetic, order)
            truth = np.array([place[label] for label in images.labels])
            before = done

            def on_step(note: str = note) -> None:
                nonlocal done
                done += 1
                _tell(tell, done, total, note)

            predict = learner.fit(images.inputs, truth, classes=len(classes), seed=seed, on_step=on_step)
            if done - before != learner.steps:
                raise RuntimeError(
                    f"{learner.name} made {done - before} steps on {note}, not {learner.steps}"
                )
            for name, own in test.items():
                fitted[training][name].append(predict(own.inputs))
    return fitted


def _training_images(
    training: _Training, real: LabeledImages, synthetic: LabeledImages, order: NDArray[Any]
) -> LabeledImages:
    if training.ratio is None:
        return real if training.real else synthetic
    # sorted: the order of rows must say nothing but which images were drawn
    return real.joined(synthetic.take(np.sort(order[: round(training.ratio * len(real))])))


def _tell(on_progress: OnProgress | None, done: int, total: int, note: str) -> None:
    if on_progress is not None:
        on_progress(done, total, note)
