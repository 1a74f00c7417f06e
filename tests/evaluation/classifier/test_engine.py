"""The engine trains what it says and nothing twice; the summary knows seeds and groups."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from evaluation import LabeledImages, ProbeLearner
from evaluation.classifier.engine import REAL_TEST, Arm, Trained, View, train_arms
from evaluation.classifier.results import ArmRow, Comparison
from evaluation.classifier.summary import Family, summarize
from tests.evaluation.classifier.conftest import clouds

CLASSES = ("cecum", "polyp")
REAL = Arm(name="real", per_class=5)
MORE = Arm(name="real", per_class=5, synthetic="made", ratio=2.0, by_class=True)
CLASSICAL = Arm(name="real + classical", per_class=5, classical=True)


@dataclass(frozen=True, kw_only=True)
class Recorder(ProbeLearner):
    """The probe, with what it was trained on; with classical augmentation it calls itself `augmented`."""

    strength: float = 1.0
    seen: list[Any] = field(default_factory=list)
    augments: bool = False

    def augmented(self) -> Any:
        return dataclasses.replace(self, strength=0.5) if self.augments else None

    def fit(self, inputs: Any, truth: Any, **named: Any) -> Any:
        self.seen.append((self.strength, named["seed"], {row.tobytes() for row in inputs}))
        return super().fit(inputs, truth, **named)


def view(learner: Any) -> View:
    return View(
        learner=learner,
        real=clouds(40, seed=1, name="train", gap=1.0),
        synthetic={"made": clouds(60, seed=3, name="made", gap=1.0)},
        test={REAL_TEST: clouds(80, seed=2, name="test", gap=1.0)},
    )


def trained(learner: Any, *arms: Arm, cache: Path | None = None, seeds: Any = (0, 1, 2)) -> list[Trained]:
    return train_arms([view(learner)], arms, classes=CLASSES, seeds=seeds, cache=cache)


def test_all_arms_of_a_seed_share_their_real_images_and_classical_is_the_learners() -> None:
    learner = Recorder(augments=True)
    found = trained(learner, REAL, MORE, CLASSICAL, seeds=(3,))
    assert [(one.train_real, one.train_synthetic) for one in found] == [(10, 0), (10, 20), (10, 0)]
    (_, _, real), (_, _, more), (strength, _, classical) = learner.seen
    assert real < more
    assert (real, strength) == (classical, 0.5)
    # a learner that knows no augmentation leaves the arm out
    assert [one.arm for one in trained(Recorder(), REAL, CLASSICAL)] == [REAL]


def test_nothing_is_trained_twice_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    learner = Recorder()
    first = trained(learner, REAL, MORE, cache=tmp_path)
    assert len(learner.seen) == 6
    for path in sorted(tmp_path.iterdir())[:2]:
        path.unlink()
    again = trained(learner, REAL, MORE, cache=tmp_path)
    assert len(learner.seen) == 8
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
    trained(
        Recorder(strength=0.3, seen=learner.seen), REAL, cache=tmp_path
    )  # another learner is trained anew
    assert len(learner.seen) == 11


def test_arms_that_differ_in_the_test_alone_share_a_classifier_and_a_seedless_one_is_fitted_once() -> None:
    learner = Recorder()
    sets = view(learner)
    both = View(**{**vars(sets), "test": {**sets.test, "made_test": clouds(30, seed=5, name="held")}})
    arms = [Arm(name="R->R"), Arm(name="R->S", test="made_test")]
    found = train_arms([both], arms, classes=CLASSES, seeds=(0, 1, 2))
    assert len(learner.seen) == 1
    assert [len(one.probabilities[2]) for one in found] == [80, 30]
    assert not any(one.seeded for one in found)


def test_a_learner_with_other_steps_than_it_says_is_a_fault() -> None:
    class Short(Recorder):
        def fit(self, inputs: Any, truth: Any, **named: Any) -> Any:
            return super().fit(inputs, truth, **{**named, "on_step": lambda: None})

    with pytest.raises(RuntimeError, match="0 steps on probe, real, seed 0, not 1"):
        trained(Short(), REAL)


def answers(right: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Probabilities of a classifier that is right where it says."""
    said = np.where(right, truth, 1 - truth)
    return np.where(np.eye(2)[said] == 1, 0.9, 0.1)


def planted(
    rng: np.random.Generator, *, effect: float = 0.0, resamples: int = 300
) -> tuple[tuple[ArmRow, ...], Comparison, dict[Arm, np.ndarray]]:
    """Two arms with five seeds each, on 30 groups of 4 images; accuracies differ between seeds."""
    number = np.repeat(np.arange(30), 4)
    truth = number % 2
    hard = rng.normal(size=30)[number]
    arms = (Arm(name="base"), Arm(name="other"))
    right = {
        arm: np.stack(
            [hard + rng.normal(size=120) + rng.normal(0, 0.3) + 0.7 + shift > 0 for _ in range(5)], axis=1
        )
        for arm, shift in zip(arms, (0.0, effect), strict=True)
    }
    test = LabeledImages.of(
        np.zeros((120, 1)), [CLASSES[y] for y in truth], name="t", groups=[str(i) for i in number]
    )
    own = [
        Trained(
            arm=arm, learner="planted", train_real=1, train_synthetic=0, seeded=True,
            probabilities=[answers(column, truth) for column in right[arm].T],
        )
        for arm in arms
    ]  # fmt: skip
    rows, (comparison,) = summarize(
        own,
        {REAL_TEST: test},
        classes=CLASSES,
        seeds=range(5),
        families=[Family("effect", ((arms[1], arms[0]),))],
        resamples=resamples,
    )
    return rows, comparison, right


def test_the_difference_of_two_arms_is_over_seeds_and_groups() -> None:
    """Against the variances worked out by hand: seeds with S - 1, group means within the two classes."""
    rows, comparison, right = planted(np.random.default_rng(1), effect=0.3, resamples=20_000)
    base, other = right.values()
    change = other.astype(float) - base
    of_seeds = change.mean(axis=0).var(ddof=1) / 5
    means = change.mean(axis=1).reshape(30, 4).mean(axis=1)
    of_groups = sum(means[c::2].var(ddof=1) / 15 for c in (0, 1)) / 4
    freedom = int((of_seeds + of_groups) ** 2 / (of_seeds**2 / 4 + of_groups**2 / 28))
    half = t.ppf(0.975, freedom) * math.sqrt(of_seeds + of_groups)
    found = comparison.differences["accuracy"].estimate
    assert found.value == pytest.approx(change.mean())
    assert (found.low, found.high) == pytest.approx((change.mean() - half, change.mean() + half), abs=0.003)
    for row, own in zip(rows, (base, other), strict=True):
        assert row.estimates["accuracy"].value == pytest.approx(own.mean())
        assert [run.estimates["accuracy"].value for run in row.runs] == pytest.approx(own.mean(axis=0))


def test_false_alarms_are_rare_and_real_effects_seen() -> None:
    rng = np.random.default_rng(0)

    def p(effect: float) -> float:
        one = planted(rng, effect=effect, resamples=100)[1].differences["balanced_accuracy"]
        assert one.p is not None
        return one.p

    null = np.array([p(0.0) for _ in range(60)])
    assert (null < 0.05).mean() <= 0.117  # 5 % are allowed; the 99 % bound of 60
    assert np.mean([p(1.2) < 0.05 for _ in range(15)]) >= 0.7


def test_few_seeds_and_an_arm_minus_itself() -> None:
    few = trained(ProbeLearner(), REAL, Arm(name="all"), seeds=(0, 1))
    rows, (comparison,) = summarize(
        few,
        view(None).test,
        classes=CLASSES,
        seeds=(0, 1),
        families=[Family("nothing", ((REAL, REAL),))],
        resamples=100,
    )
    drawn, whole = (row.estimates["accuracy"] for row in rows)
    assert (drawn.status, whole.status) == ("unreliable", "ok")  # the second hangs on no seed
    one = comparison.differences["balanced_accuracy"]
    assert (one.estimate.value, one.p, one.verdict) == (0.0, 1.0, "no difference shown")
