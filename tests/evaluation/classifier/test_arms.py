"""The arms find what was planted, train alike, repeat themselves, and refuse what would leak."""

import json

import numpy as np
import pytest

from evaluation import ClassifierError, LabeledImages, ProbeLearner, five_arms
from evaluation.classifier.arms import ARMS
from evaluation.classifier.scores import METRICS
from evaluation.estimate import Estimate
from tests.evaluation.classifier.conftest import clouds, relabeled


def compare(synthetic: LabeledImages, *, classes: int = 2, **changes):
    first, second = synthetic.split(0.25, seed=0)
    settings = {"seeds": (0, 1), "ratios": (0.5, 1.0), "resamples": 300} | changes
    return five_arms(
        clouds(160, seed=1, name="train", classes=classes),
        clouds(240, seed=2, name="test", classes=classes, each=2, centers=("north", "south")),
        synthetic_train=first,
        synthetic_test=second,
        **settings,
    )


def value(result, arm, metric="balanced_accuracy", **where):
    return result.row(arm, **where).estimates[metric].value


@pytest.mark.parametrize("classes", [2, 4])
def test_synthetic_images_like_real_ones_are_worth_as_much(classes):
    result = compare(clouds(400, seed=3, name="made", classes=classes), classes=classes)
    ceiling = value(result, "R->R")
    assert ceiling > 0.9
    for arm in ("S->R", "S->S", "R->S"):
        assert value(result, arm) == pytest.approx(ceiling, abs=0.06)
    change = result.differences(result.row("S->R"))["balanced_accuracy"]
    assert change.paired
    assert change.estimate.low <= 0 <= change.estimate.high
    assert not result.differences(result.row("S->S"))["balanced_accuracy"].paired


@pytest.mark.parametrize("classes", [2, 4])
def test_swapped_labels_teach_the_opposite(classes):
    made = clouds(400, seed=3, name="made", classes=classes)
    names = sorted(set(made.labels))
    swap = dict(zip(names, [*names[1:], names[0]], strict=True))
    result = compare(relabeled(made, [swap[label] for label in made.labels]), classes=classes)
    assert value(result, "S->R") < 0.1
    assert value(result, "R->S") < 0.1
    assert value(result, "S->S") > 0.9  # it is all consistent, and all wrong
    change = result.differences(result.row("S->R"))["balanced_accuracy"]
    assert change.estimate.high < -0.7
    assert change.p_holm < 0.05
    # the confusion is the planted one
    shares = np.array([[cell.value for cell in line] for line in result.row("S->R").confusion])
    read = shares.argmax(axis=1)
    assert [names[read[i]] for i in range(classes)] == [swap[name] for name in names]


@pytest.mark.parametrize("classes", [2, 4])
def test_noise_teaches_nothing(classes):
    made = clouds(400, seed=3, name="made", classes=classes, gap=0.0)
    result = compare(made, classes=classes)
    assert value(result, "S->R") == pytest.approx(1 / classes, abs=0.15)
    assert value(result, "S->R", "auroc") == pytest.approx(0.5, abs=0.2)
    assert result.differences(result.row("S->R"))["accuracy"].p_holm < 0.05


def test_scarce_real_images_are_helped():
    real = clouds(12, seed=1, name="train", gap=1.5, d=20)
    test = clouds(400, seed=2, name="test", gap=1.5, d=20)
    made = clouds(400, seed=3, name="made", gap=1.5, d=20)
    result = five_arms(
        real, test, synthetic_train=made, arms=["R+S->R"], ratios=(1, 30), seeds=(0, 1, 2), resamples=300
    )
    assert [row.title for row in result.rows] == ["R->R", "R+S->R 1:1", "R+S->R 1:30"]
    change = result.differences(result.row("R+S->R", ratio=30))["accuracy"]
    assert change.estimate.low > 0
    assert change.p_holm >= change.p


def test_result_tells_everything_and_survives_json():
    result = compare(clouds(400, seed=3, name="made"), by_center=True)
    assert {row.arm.name for row in result.rows} == set(ARMS)
    assert result.scopes == ["all", "north", "south"]
    for row in result.rows:
        assert set(METRICS) <= set(row.estimates)
        assert {"recall:cecum", "recall:polyp"} <= set(row.estimates)
        assert [run.seed for run in row.runs] == [0, 1]
        assert np.sum(row.runs[0].confusion) == row.test_images
    real, north = result.row("R->R"), result.row("R->R", scope="north")
    south = result.row("R->R", scope="south")
    assert (real.test_images, real.test_groups) == (240, 120)
    assert north.test_images + south.test_images == 240
    parts = [row.estimates["accuracy"].value * row.test_images for row in (north, south)]
    assert sum(parts) / 240 == pytest.approx(real.estimates["accuracy"].value)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    again = Estimate.from_json(document["rows"][0]["estimates"]["ece"])
    assert again == result.rows[0].estimates["ece"]
    header, lines = result.table()
    assert len(lines) == len(result.rows)
    assert {len(line) for line in lines} == {len(header)}
    with pytest.raises(KeyError, match="R->R"):
        result.row("nowhere")


def test_holm_takes_in_every_arm_of_a_metric():
    result = compare(clouds(400, seed=3, name="made", gap=1.0))
    from evaluation import holm

    changes = [result.differences(row)["accuracy"] for row in result.rows[1:]]
    assert len(changes) == 5
    assert [c.p_holm for c in changes] == pytest.approx(holm([c.p for c in changes]))


def test_same_seed_same_result_and_the_global_stream_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this very state must not move
    made = clouds(300, seed=3, name="made", gap=1.0)
    first, second = (compare(made).to_dict() for _ in range(2))
    assert first == second
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_order_of_images_does_not_matter_to_the_probe():
    made = clouds(300, seed=3, name="made", gap=1.0)
    real, test = clouds(100, seed=1, name="train"), clouds(100, seed=2, name="test")
    order = np.random.default_rng(0).permutation(100)
    a, b = (
        five_arms(own, test, synthetic_train=made, arms=["S->R"], resamples=100)
        for own in (real, real.take(order))
    )
    assert a.row("R->R").estimates["accuracy"].value == b.row("R->R").estimates["accuracy"].value


class Counting:
    """A learner that counts its steps and says what it was given."""

    name, steps, uses_seed = "counting", 7, True

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def settings(self):
        return {}

    def fit(self, inputs, truth, *, classes, seed, on_step):
        self.seen.append((len(inputs), seed))
        for _ in range(self.steps):
            on_step()
        return lambda images: np.full((len(images), classes), 1 / classes)


def test_every_arm_gets_the_same_steps_whatever_its_images():
    learner, said = Counting(), []
    compare(clouds(400, seed=3, name="made"), learner=learner, on_progress=lambda *event: said.append(event))
    # R 160; S 300; R+S 240 and 320; two seeds
    assert sorted(learner.seen) == sorted((n, seed) for n in (160, 300, 240, 320) for seed in (0, 1))
    assert [done for done, _, _ in said] == list(range(1, 8 * 7 + 1))
    assert {total for _, total, _ in said} == {8 * 7}
    counts = {note: sum(own == note for _, _, own in said) for _, _, note in said}
    assert set(counts.values()) == {7}


def test_two_classes_through_the_project_s_own_probe():
    from evaluation import fit_probe

    real, test = clouds(80, seed=1, name="train", gap=1.0), clouds(90, seed=2, name="test", gap=1.0)
    result = five_arms(real, test, synthetic_train=real, arms=["R->R"], seeds=[0], resamples=100)
    probe = fit_probe(real.inputs, np.array(real.labels) == "polyp", seed=0)
    expected = probe.accuracy(test.inputs, np.array(test.labels) == "polyp").value
    assert result.row("R->R").estimates["accuracy"].value == pytest.approx(expected)


REAL, TEST = clouds(40, seed=1, name="train"), clouds(40, seed=2, name="test")
MADE, HELD = clouds(40, seed=3, name="made"), clouds(40, seed=4, name="held")


@pytest.mark.parametrize(
    ("real", "test", "made", "held", "said"),
    [
        (REAL, clouds(40, seed=2, name="train"), MADE, HELD, "'train-0' lies in real_train and in real_test"),
        (
            REAL,
            TEST,
            clouds(40, seed=2, name="test"),
            HELD,
            "'test-0' lies in synthetic_train and in real_test",
        ),
        (REAL, TEST, MADE, MADE, "'made-0' lies in synthetic_train and in synthetic_test"),
        (REAL, TEST, MADE.take([]), HELD, "synthetic_train: no image"),
        (REAL, TEST.take([]), MADE, HELD, "real_test: no image"),
        (REAL, TEST, MADE, None, "synthetic_test"),
        (REAL, TEST.take(range(0, 40, 2)), MADE, HELD, "real_test: 0 images of class 'polyp'"),
        (REAL, TEST, MADE.take(range(0, 40, 2)), HELD, "synthetic_train: 0 images of class 'polyp'"),
        (
            REAL,
            clouds(40, seed=2, name="test", classes=3),
            MADE,
            HELD,
            "real_train: 0 images of class 'pylorus'",
        ),
        (REAL, TEST, clouds(40, seed=3, name="made", d=5), HELD, "one encoder"),
        (REAL, TEST, MADE.take(range(30)), HELD, "ratio up to 0.75"),
    ],
)
def test_what_would_mislead_is_refused(real, test, made, held, said):
    with pytest.raises(ClassifierError, match=said):
        five_arms(real, test, synthetic_train=made, synthetic_test=held, ratios=[1.0], resamples=100)


def test_one_class_is_refused_and_a_class_of_one_synthetic_set_is_enough_for_a_mixture():
    one = [own.take(range(0, 40, 2)) for own in (REAL, TEST, MADE, HELD)]
    with pytest.raises(ClassifierError, match="only one class, 'cecum'"):
        five_arms(one[0], one[1], synthetic_train=one[2], synthetic_test=one[3])
    result = five_arms(REAL, TEST, synthetic_train=one[2], arms=["R+S->R"], ratios=[0.5], resamples=100)
    assert result.row("R+S->R", ratio=0.5).train_synthetic == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": ["R->T"]}, "'R->T' does not exist"),
        ({"seeds": []}, "seeds is"),
        ({"seeds": [1, 1]}, "different"),
        ({"ratios": [0]}, "ratios: 0"),
        ({"ratios": []}, "ratios is empty"),
        ({"level": 95}, "level is 95"),
        ({"resamples": 5}, "resamples is 5"),
    ],
)
def test_settings_without_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        five_arms(REAL, TEST, synthetic_train=MADE, synthetic_test=HELD, **({"ratios": [0.5]} | changes))


def test_few_groups_and_missing_classes_are_said():
    few = five_arms(REAL, TEST.take(range(12)), synthetic_train=MADE, arms=["S->R"], resamples=100)
    row = few.row("S->R")
    assert row.estimates["balanced_accuracy"].status == "unreliable"
    assert row.estimates["accuracy"].status == "ok"
    # one center has polyps alone
    labels = np.array(TEST.labels)
    centers = np.where((labels == "polyp") & (np.arange(40) < 20), "south", "north")
    test = LabeledImages(TEST.inputs, TEST.labels, TEST.groups, tuple(centers))
    result = five_arms(REAL, test, synthetic_train=MADE, arms=["S->R"], resamples=100, by_center=True)
    south = result.row("S->R", scope="south")
    assert south.estimates["balanced_accuracy"].status == "undefined"
    assert south.estimates["accuracy"].value is not None
    assert result.differences(south)["auroc"].estimate.status == "undefined"
    assert result.differences(south)["auroc"].p is None


def test_probe_refuses_pixels():
    with pytest.raises(ClassifierError, match="features"):
        ProbeLearner().fit(
            np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2, classes=2, seed=0, on_step=lambda: None
        )


def test_split_keeps_groups_whole_and_labels_on_both_sides():
    made = clouds(120, seed=0, name="made", classes=3, each=3)
    first, second = made.split(0.25, seed=1)
    assert set(first.groups).isdisjoint(second.groups)
    assert set(first.labels) == set(second.labels) == set(made.labels)
    assert len(first) + len(second) == 120
    assert 0.2 < len(second) / 120 < 0.3
    with pytest.raises(ClassifierError, match="single group"):
        made.take([0, 1, 2]).split(0.5, seed=0)
