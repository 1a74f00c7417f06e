"""Training the judge: it learns, it resumes to the same bits, and it leaves out what is not known."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.classifier.judge import HEADS, JudgeConfig, JudgeNetwork, load_judge
from evaluation.training.judge import UNKNOWN, judge_loss, targets_of, train_judge
from evaluation.training.recipe import JudgeSpec
from generators.training.push import files_to_push
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import held
from promptopt.base.training.progress import Progress
from studies.dataset import Dataset, Record
from tests.evaluation.training.conftest import write_squares

SPEC = JudgeSpec(
    steps=6, batch_size=16, warmup_steps=2, save_every=3, image_size=32, widths=(4, 8, 8, 16), hidden=16
)


class Cut(Exception):  # noqa: N818
    """Stands for a kill."""


def cut_after(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise Cut

    return stop


def record(**attributes: object) -> Record:
    return Record(
        file_name="a.png",
        text=("a",),
        category="polyps",
        label="polyp",
        center="x",
        group="a",
        pool="reference",
        attributes=attributes,
    )


@pytest.fixture(scope="module")
def config() -> JudgeConfig:
    from evaluation.classifier.judge import CATEGORY_NAMES, COUNT_NAMES, KIND_NAMES, LOCATION_NAMES

    return JudgeConfig(
        image_size=32,
        widths=(4, 4, 4, 4),
        hidden=8,
        names={
            "category": CATEGORY_NAMES,
            "kind": KIND_NAMES,
            "count": COUNT_NAMES,
            "location": LOCATION_NAMES,
            "color": ("none", "red"),
            "size": ("none",),
            "paris": ("none", "is"),
        },
    )


@pytest.mark.slow
def test_it_learns_a_small_set(squares: Dataset, tmp_path: Path) -> None:
    spec = SPEC.model_copy(
        update={
            "steps": 120,
            "batch_size": 32,
            "widths": (8, 16, 24, 32),
            "learning_rate": 5e-3,
            "augmentation": 0.5,
            "save_every": 1000,
        }
    )
    out = train_judge(spec, data=squares, out=tmp_path / "judge")
    figures = json.loads((out / "metrics.json").read_text())["figures"]
    for head in ("category", "kind", "count", "paris"):
        assert figures[f"{head} accuracy"]["value"] > 0.9, head
    assert figures["color accuracy"]["value"] > 0.8
    assert figures["location, all nine right"]["value"] > 0.8
    assert figures["box accuracy"]["status"] == "undefined"  # never known in this data set
    # The folder as it lies on disk says the same of a picture whose truth is known.
    judge = load_judge(out)
    valid = squares.where(pool="validation")
    from PIL import Image

    reading = judge.read([Image.open(path) for path in valid.paths()])
    names = [judge.names["category"][i] for i in reading.category_probabilities.argmax(axis=1)]
    right = np.mean([name == r.category for name, r in zip(names, valid, strict=True)])
    assert right == pytest.approx(figures["category accuracy"]["value"])
    card = (out / "README.md").read_text()
    assert squares.fingerprint in card
    assert "| color accuracy |" in card
    assert not (out / "checkpoints").exists()
    assert files_to_push(out)


def test_a_cut_run_ends_with_the_same_bits(squares: Dataset, tmp_path: Path) -> None:
    whole = train_judge(SPEC, data=squares, out=tmp_path / "whole")
    with pytest.raises(Cut):
        train_judge(SPEC, data=squares, out=tmp_path / "cut", on_progress=cut_after(4))
    steps = []
    cut = train_judge(
        SPEC, data=squares, out=tmp_path / "cut", on_progress=lambda progress: steps.append(progress.step)
    )
    assert steps == [4, 5, 6]  # from the checkpoint after step 3
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    # The same command once more trains nothing; another recipe does not touch the folder.
    train_judge(SPEC, data=squares, out=cut, on_progress=lambda progress: steps.append(0))
    assert steps == [4, 5, 6]
    with pytest.raises(TrainingError, match="another run"):
        train_judge(SPEC.model_copy(update={"seed": 9}), data=squares, out=cut)


def test_a_checkpoint_of_another_run_is_refused_and_a_damaged_one_passed_over(
    squares: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train_judge(SPEC, data=squares, out=tmp_path / "whole")
    with pytest.raises(Cut):
        train_judge(SPEC, data=squares, out=tmp_path / "cut", on_progress=cut_after(4))
    with pytest.raises(TrainingError, match=r"another recipe.*recipe\.seed"):
        train_judge(SPEC.model_copy(update={"seed": 1}), data=squares, out=tmp_path / "cut")
    (file,) = (tmp_path / "cut" / "checkpoints").glob("step-*/tensors.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    cut = train_judge(SPEC, data=squares, out=tmp_path / "cut")
    assert "step-00000003: damaged" in caplog.text
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_finished_judge_that_is_damaged_is_said(squares: Dataset, tmp_path: Path) -> None:
    out = train_judge(SPEC, data=squares, out=tmp_path / "out")
    content = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match=r"out: is damaged: model\.safetensors has other content"):
        train_judge(SPEC, data=squares, out=out)


def test_a_judge_that_diverges_in_its_last_step_is_not_written(squares: Dataset, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"steps": 1, "learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"diverged, a weight is .*lower learning_rate \(1e\+30\)"):
        train_judge(spec, data=squares, out=tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.safetensors")) == []


def test_pictures_that_changed_since_a_kill_are_noticed(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", images=40)
    with pytest.raises(Cut):
        train_judge(SPEC, data=data, out=tmp_path / "out", on_progress=cut_after(4))
    one, other = data.where(pool="reference").paths()[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(TrainingError, match=r"\(pictures\)"):
        train_judge(SPEC, data=data, out=tmp_path / "out")


def test_none_means_does_not_apply_for_some_heads_and_unknown_for_others(config: JudgeConfig) -> None:
    targets = targets_of(
        [
            record(
                kind="polyp", count=2, locations=["center", "upper-left"], color="red", paris=None, text=True
            ),
            record(kind=None, locations=None, color=None),
        ],
        config,
    )
    assert targets.choices["category"].tolist() == [0, 0]  # from the record itself
    assert targets.choices["kind"].tolist() == [0, UNKNOWN]
    assert targets.choices["count"].tolist() == [2, UNKNOWN]
    assert targets.choices["color"].tolist() == [1, 0]
    assert targets.choices["paris"].tolist() == [0, UNKNOWN]
    assert targets.flags["location"][0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert np.isnan(targets.flags["location"][1]).all()
    assert targets.flags["text"][0, 0] == 1
    assert np.isnan(targets.flags["box"]).all()


def test_unknown_values_have_no_gradient_and_known_ones_have(config: JudgeConfig) -> None:
    network = JudgeNetwork(config)
    targets = targets_of([record(kind="polyp", text=False), record(color="red")], config)
    loss = judge_loss(network(torch.rand(2, 3, 32, 32)), targets, np.arange(2))
    loss.backward()
    touched = {head for head in HEADS if float(network.heads[head].weight.grad.abs().sum()) > 0}
    assert touched == {"category", "kind", "color", "text"}


def test_the_loss_is_the_mean_over_the_known_values_alone(config: JudgeConfig) -> None:
    rng = np.random.default_rng(0)
    logits = {h: torch.from_numpy(rng.normal(size=(2, config.outputs(h)))) for h in HEADS}
    targets = targets_of([record(kind="cecum", text=True), record(kind="polyp")], config)

    def minus_log_softmax(head: str, row: int, index: int) -> float:
        x = logits[head][row].numpy()
        return float(np.log(np.exp(x).sum()) - x[index])

    expected = (minus_log_softmax("category", 0, 0) + minus_log_softmax("category", 1, 0)) / 2
    expected += (minus_log_softmax("kind", 0, 3) + minus_log_softmax("kind", 1, 0)) / 2
    expected += float(np.log1p(np.exp(-logits["text"][0, 0].item())))
    assert float(judge_loss(logits, targets, np.arange(2))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"kind": "unicorn"}, "a.png: attribute 'kind': 'unicorn' is not one of polyp"),
        ({"locations": ["middle"]}, "attribute 'locations': 'middle'"),
        ({"text": "yes"}, "attribute 'text': got 'yes'; write true or false"),
        ({"count": 4}, "attribute 'count': '4'"),
    ],
)
def test_a_value_without_a_name_is_refused(
    config: JudgeConfig, attributes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        targets_of([record(**attributes)], config)


def test_a_folder_in_which_another_trains_is_refused(squares: Dataset, tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(TrainingError, match="another training writes there"):
        train_judge(SPEC, data=squares, out=tmp_path)


def test_both_pools_are_needed(squares: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'validation'"):
        train_judge(SPEC, data=squares.where(pool="reference"), out=tmp_path)
