"""The proof: planted helps and harms, honest p-values, nothing trained twice, plain words."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from evaluation.classifier.engine import REAL_TEST, View, training_set
from evaluation.classifier.images import ClassifierError, LabeledImages
from evaluation.classifier.learners import ProbeLearner
from evaluation.classifier.network import NetworkLearner
from evaluation.classifier.results import MAIN, ArmRow, ArmsResult, Comparison, Difference
from evaluation.classifier.small_network import SmallNetwork
from evaluation.estimate import Estimate
from promptopt.augmentation.proof.proof import BOTH, ELSEWHERE, Proof, arm, prove
from promptopt.augmentation.proof.sets import prompts_of, variants
from promptopt.augmentation.proof.verdict import markdown, verdict, write_proof
from promptopt.augmentation.proof.views import check_learners
from promptopt.augmentation.sources import AugmentationError
from promptopt.cli.main import main
from studies.dataset import read_dataset
from tests.promptopt.augmentation.planted import WildGenerator, planted
from tests.promptopt.fakes import draw

DIM = 12


@dataclass(frozen=True)
class CountingProbe(ProbeLearner):
    """The probe, and how often it was fitted."""

    fits: list[int] = field(default_factory=list)

    def fit(self, *arguments: Any, **named: Any) -> Any:
        self.fits.append(1)
        return super().fit(*arguments, **named)


def gaussians(count: int, seed: int, *, name: str, flip: bool = False) -> LabeledImages:
    """Two classes, one SD apart along each axis in all; `flip` exchanges their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b"], count)
    shift = np.where(labels == "a", -1, 1)[:, None] * 1.2 / np.sqrt(DIM)
    said = np.where(labels == "a", "b", "a") if flip else labels
    inputs = rng.normal(size=(2 * count, DIM)) + shift
    return LabeledImages.of(inputs.astype(np.float32), said.tolist(), name=name)


def view(learner: Any = None, *, flip: bool = False) -> View:
    return View(
        learner=learner or ProbeLearner(),
        real=gaussians(40, 1, name="real"),
        test={REAL_TEST: gaussians(150, 2, name="test")},
        synthetic={
            "set": gaussians(120, 3, name="s", flip=flip),
            "random": gaussians(120, 4, name="r", flip=not flip),
        },
    )


def run(folder: Path, **changes: Any) -> Proof:
    settings: dict[str, Any] = {"real_per_class": [6], "ratios": [1.0, 10.0], "resamples": 400}
    one = changes.pop("view", None) or view()
    return prove([one], folder, **{**settings, **changes})


def test_a_rare_class_has_few_real_images_and_as_many_synthetic_ones(tmp_path: Path) -> None:
    rare = run(tmp_path / "rare", rare={"b": 2})
    sizes = {
        (row.arm.synthetic, row.arm.ratio): (row.train_real, row.train_synthetic) for row in rare.result.rows
    }
    assert sizes[None, None] == (8, 0)
    assert sizes["set", 10.0] == (8, 120)
    assert rare.notes == (
        "of b 2 real images train at most, and as many synthetic ones as of the other classes",
    )
    few = arm(per_class=6, variant="set", ratio=10.0, rare=(("b", 2),))
    images, made = training_set(few, view(), ["a", "b"], seed=0)
    assert (images.labels.count("a"), images.labels.count("b"), made) == (66, 62, 120)
    whole, _ = training_set(arm(per_class=6), view(), ["a", "b"], seed=0)
    cut, _ = training_set(arm(per_class=6, rare=(("b", 2),)), view(), ["a", "b"], seed=0)
    assert {row.tobytes() for row in cut.inputs} < {row.tobytes() for row in whole.inputs}
    with pytest.raises(AugmentationError, match="rare: no class is called 'c'; there are a, b"):
        run(tmp_path / "none", rare={"c": 2})
    with pytest.raises(AugmentationError, match="1 images of 'b' are asked for; give 2 to 40"):
        run(tmp_path / "one", rare={"b": 1})


def test_planted_help_and_harm_are_found(tmp_path: Path) -> None:
    helped = run(tmp_path / "good")
    found = {(c.question, c.first.ratio): c.differences[MAIN] for c in helped.result.comparisons}
    assert found["synthetic", 10.0].verdict == "better"
    assert found["against", 10.0].verdict == "better"
    assert "Synthetic images help" in "\n".join(verdict(helped)).replace(": s", ": S")
    harmed = run(tmp_path / "bad", view=view(flip=True))
    found = {(c.question, c.first.ratio): c.differences[MAIN] for c in harmed.result.comparisons}
    assert found["synthetic", 10.0].verdict == "worse"
    assert found["against", 10.0].verdict == "worse"
    said = "\n".join(verdict(harmed))
    assert "synthetic images hurt: -" in said
    assert "the set is worse: -" in said
    for one in helped.result.comparisons:
        c = one.differences[MAIN]
        assert c.p is not None
        assert c.p_holm is not None
        assert c.p_holm >= c.p


def test_nothing_is_trained_twice(tmp_path: Path) -> None:
    counting = CountingProbe()
    first = run(tmp_path, view=view(counting))
    assert len(counting.fits) == 5 * (1 + 2 * 2)
    again = run(tmp_path, view=view(counting))
    assert len(counting.fits) == 25
    assert again == first
    # as a kill leaves it: some trainings are missing
    for path in sorted((tmp_path / ".prove").iterdir())[:4]:
        path.unlink()
    assert run(tmp_path, view=view(counting)) == first
    assert len(counting.fits) == 29
    run(tmp_path, view=view(counting), real_per_class=[7])
    assert len(counting.fits) == 54


def test_the_same_real_images_in_all_arms_of_a_seed(tmp_path: Path) -> None:
    seen: list[set[bytes]] = []

    @dataclass(frozen=True)
    class Spy(ProbeLearner):
        def fit(self, inputs: Any, *arguments: Any, **named: Any) -> Any:
            seen.append({row.tobytes() for row in inputs})
            return super().fit(inputs, *arguments, **named)

    run(tmp_path, view=view(Spy()), seeds=(3,), real_per_class=[6, 9])
    real = {row.tobytes() for row in view().real.inputs}
    drawn = [rows & real for rows in seen]
    assert [len(rows) for rows in drawn] == [12] * 5 + [18] * 5
    assert all(rows == drawn[0] for rows in drawn[:5])
    assert drawn[0] < drawn[5]
    assert [len(rows) - len(own) for rows, own in zip(seen[:5], drawn[:5], strict=True)] == [
        0,
        12,
        120,
        12,
        120,
    ]


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(AugmentationError, match="50 images of 'a' are asked for; give 2 to 40"):
        run(tmp_path, real_per_class=[50])
    with pytest.raises(AugmentationError, match="ratios"):
        run(tmp_path, ratios=[0.0])
    own = view()
    crossed = View(**{**vars(own), "test": {REAL_TEST: own.real}})
    with pytest.raises(ClassifierError, match="lies in"):
        run(tmp_path, view=crossed)
    test = {REAL_TEST: own.test[REAL_TEST].take(range(150))}
    alone = View(**{**vars(own), "real": own.real.take(range(40)), "test": test})
    with pytest.raises(ClassifierError, match="one class, 'a'"):
        run(tmp_path, view=alone)


def test_every_choice_of_prompts_stands_beside_classical_augmentation_too(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Jittered(ProbeLearner):
        """A probe that knows an augmentation: other numbers for the same images."""

        def augmented(self) -> Any:
            return replace(self, strength=0.1)

    proof = run(tmp_path, view=view(Jittered()), ratios=[1.0])
    titles = [row.title for row in proof.result.rows]
    assert titles == [
        *("real", "real + set 1:1", "real + random 1:1"),
        *("real + classical", "real + classical + set 1:1", "real + classical + random 1:1"),
    ]
    pairs = {c.question: (c.first.title, c.second.title) for c in proof.result.comparisons}
    assert pairs["against, beside classical"] == (titles[4], titles[5])
    said = "\n".join(verdict(proof))
    assert "over random prompts, both beside classical augmentation" in said
    for row in markdown(proof).splitlines():
        assert row == "" or row.count("|") >= 7
    assert "recall of a | recall of b" in markdown(proof)


def test_the_generators_own_images_train_a_classifier_too(tmp_path: Path) -> None:
    own = view()
    other = gaussians(200, 9, name="elsewhere")
    own = View(
        **{
            **vars(own),
            "synthetic": {**own.synthetic, ELSEWHERE: other, BOTH: other.joined(own.synthetic["set"])},
        }
    )
    proof = run(tmp_path, view=own, ratios=[1.0])
    sizes = {row.title: (row.train_real, row.train_synthetic) for row in proof.result.rows}
    assert sizes["real + generator's images"] == (12, 400)
    assert sizes["real + generator's images + set"] == (12, 640)
    found = {c.first.title: c for c in proof.result.comparisons if c.question == ELSEWHERE}
    assert found["real + generator's images"].second.title == "real"
    assert found["real + generator's images"].differences[MAIN].verdict == "better"
    assert found["real + generator's images + set"].second.title == "real + generator's images"
    assert "the generator's own training images +" in "\n".join(verdict(proof))
    assert not any("fewer synthetic" in note for note in proof.notes)


def test_fewer_synthetic_images_than_asked_for_are_said(tmp_path: Path) -> None:
    proof = run(tmp_path, ratios=[1.0, 100.0])
    assert any("set 1:100, 6 real: 240 of 1200" in note for note in proof.notes)


@pytest.mark.slow
def test_files_say_the_same(tmp_path: Path) -> None:
    proof = run(tmp_path)
    paths = write_proof(proof, tmp_path)
    assert [path.name for path in paths] == ["proof.json", "proof.csv", "proof.md", "proof.png"]
    document = json.loads(paths[0].read_text())
    assert document["verdict"] == verdict(proof)
    with paths[1].open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(proof.result.rows) + len(proof.result.comparisons)
    first = next(line for line in lines if line["minus"])
    assert float(first["value"]) == pytest.approx(document["comparisons"][0]["estimate"]["value"], abs=1e-5)
    with Image.open(paths[3]) as picture:
        assert picture.width > 400
    both = arm(per_class=None, classical=True, variant="set", ratio=0.5)
    assert both.title == "real + classical + set 1:0.5"


def squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    names = ["a big red square on black", "a big blue square on black"]
    pixels = [np.asarray(draw(names[i % 2], 1000 * seed + i)) for i in range(count)]
    return np.stack(pixels), np.arange(count) % 2


@pytest.mark.parametrize("classical", [False, True])
def test_the_network_learns_and_repeats_itself(classical: bool) -> None:
    train, truth = squares(12, 1)
    test, wanted = squares(40, 2)
    learner = SmallNetwork(steps=25, batch_size=16, classical=classical)
    state = torch.random.get_rng_state()
    fit: Callable[[], np.ndarray] = lambda: learner.fit(  # noqa: E731
        train, truth, classes=2, seed=0, on_step=lambda: None
    )(test)
    said = fit()
    assert (said.argmax(axis=1) == wanted).mean() > 0.9
    assert np.array_equal(said, fit())
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_portfolio_that_is_the_baseline_is_not_compared_with_it(tmp_path: Path) -> None:
    red, other = planted(tmp_path)[0]
    chosen, left_out = variants(
        [red.by("baseline", 9, seed=0), other], ["set", "baseline", "random"], count=9, seed=0
    )
    assert [one.name for one in chosen] == ["set", "random"]
    assert [source.name for source in chosen[1].sources] == ["red"]
    assert "nothing to compare" in left_out[0]
    with pytest.raises(AugmentationError, match="'best' does not exist"):
        variants([red], ["set", "best"], count=9, seed=0)


def test_a_ratio_that_may_harm_is_not_hidden_behind_the_best_one() -> None:
    def compared(ratio: float, low: float, value: float, high: float) -> Comparison:
        estimate = Estimate(value=value, low=low, high=high, n=9, method="m", status="ok")
        return Comparison(
            question="synthetic", learner="network", scope="all",
            first=arm(per_class=9, variant="set", ratio=ratio), second=arm(per_class=9),
            differences={MAIN: Difference(estimate=estimate, p=0.05, p_holm=0.1, paired=True)},
        )  # fmt: skip

    real = ArmRow(
        arm=arm(per_class=9), learner="network", scope="all", train_real=9, train_synthetic=0, test_images=9,
        test_groups=9, estimates={}, confusion=(), runs=(),
    )  # fmt: skip

    def said(*comparisons: Comparison) -> str:
        settings = {"learners": {"network": {}}, "real_per_class": [9], "ratios": [1.0, 2.0]}
        shown = ArmsResult(classes=("a", "b"), settings=settings, rows=(real,), comparisons=comparisons)
        return verdict(Proof(result=shown, notes=()))[1]

    good, doubtful = compared(1, -0.02, 0.01, 0.04), compared(2, -0.05, -0.02, 0.01)
    assert "at worst" not in said(good, doubtful)
    harmful = compared(2, -0.08, -0.04, -0.01)
    assert "at best +1.0 (-2.0 to +4.0) points at 1:1, p 0.1, at worst -4.0 (" in said(good, harmful)
    assert "at worst" not in said(harmful)


def test_captions_of_real_images_are_a_choice_of_prompts(tmp_path: Path) -> None:
    red, other = planted(tmp_path)[0]
    data = read_dataset(tmp_path / "data")
    assert prompts_of([other], "captions", {"other": 5}, seed=0, data=data) == [other]  # given by hand
    [own] = prompts_of([red], "captions", {"red": 40}, seed=0, data=data)
    seen = {text for r in data.where(label="red") if r.pool != "test" for text in r.text}
    assert {prompt.candidate.prompt for prompt in own.prompts} <= seen
    assert sum(prompt.weight for prompt in own.prompts) == 40


def test_an_architecture_is_named_before_anything_is_made() -> None:
    check_learners(["network", "resnet18"])
    with pytest.raises(AugmentationError, match=r"'resnet9000' is no network .* or use network, probe"):
        check_learners(["resnet9000"])
    plain = NetworkLearner(steps=5, augmentation=0)
    changed = plain.augmented()
    assert changed is not None
    assert (changed.augmentation, changed.augmented()) == (1.0, None)


@pytest.fixture
def squares_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    import promptopt.augmentation.opening as opening

    monkeypatch.setattr(opening, "generator_opener", lambda **_: lambda _: WildGenerator())


@pytest.mark.slow
@pytest.mark.usefixtures("squares_generator")
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["augment", "run", "--class", "other=a green square", "--class", "other=a blue square"]
    done = CliRunner().invoke(main, [*command, "--out", "set", "--per-class", "6"])
    assert done.exit_code == 0, done.output
    assert "red: 6 of 6 images" in done.output
    assert (tmp_path / "set-sheet.png").is_file()
    short = [*command, "--out", "few", "--per-class", "6", "--attempts", "1", "--filters", "black,duplicates"]
    done = CliRunner().invoke(main, short)
    assert done.exit_code == 1
    assert "images are missing" in done.output
    quick = ["--real-per-class", "4,8", "--ratios", "1", "--seeds", "2", "--steps", "3", "--image-size", "16"]
    done = CliRunner().invoke(main, [*command, "--out", "proof", "--prove", *quick])
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "proof" / "proof.json").read_text())
    assert {one["learner"] for one in document["arms"]} == {"network", "probe"}
    assert document["classes"] == ["other", "red"]
    assert (tmp_path / "proof" / "sets" / "random" / "metadata.jsonl").is_file()
    wrong = CliRunner().invoke(main, [*command, "--out", "x", "--prove", "--per-class", "3"])
    assert wrong.exit_code == 2
