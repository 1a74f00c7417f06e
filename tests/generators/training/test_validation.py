"""Images drawn while training: they are looked at, the best weights are kept, and no kill changes that."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.training.finetune import train_sd
from generators.training.spec import SdTrainingSpec
from generators.training.validation import Score
from promptopt.base.training.errors import TrainingError
from studies.dataset import Dataset
from tests.generators.training.test_finetune import KilledError, assert_same_bits, changed
from tests.generators.training.test_stages import far_apart, kill_at


class Planted:
    """Judges the second look best; the same images, the same scores."""

    def __init__(self) -> None:
        self.looks: list[list[bytes]] = []

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Mapping[str, Score]:
        self.looks.append([image.tobytes() for image in images])
        return {"mmd": Score(abs(len(self.looks) - 2), lower_is_better=True)}


@pytest.mark.slow
def test_the_weights_that_validated_best_are_exported(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(spec, training={"lr": 1e-2}, validation={"every": 2, "images": 3})
    judge = Planted()
    best = train_sd(spec, data=data, out=tmp_path / "best", judge=judge)
    assert len(judge.looks) == 3
    assert judge.looks[0] != judge.looks[1]
    assert "mmd 0 at step 4" in (best / "README.md").read_text()
    last = train_sd(
        changed(spec, validation={"keep": "last"}), data=data, out=tmp_path / "last", judge=Planted()
    )
    assert far_apart(best, last) > 0
    events = [json.loads(line) for line in (tmp_path / "best" / "log.jsonl").read_text().splitlines()]
    assert [event["mmd"] for event in events if event["event"] == "validation"] == [1, 0, 1]
    # validation looks, it does not touch: the same training without it ends in the same weights
    none = train_sd(changed(spec, validation={"every": 0}), data=data, out=tmp_path / "none")
    assert_same_bits(last, none)


class Brightness:
    """Scores images by their mean, a function of the images alone."""

    def __init__(self, *, lower_is_better: bool) -> None:
        self.lower_is_better, self.values = lower_is_better, []

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Mapping[str, Score]:
        self.values.append(float(np.mean([np.asarray(image) for image in images])))
        return {"mmd": Score(self.values[-1], lower_is_better=self.lower_is_better)}


_KILLED_AT_VALIDATION = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from generators.training import SdTrainingSpec, train_sd
from studies.dataset import read_dataset
out = Path(sys.argv[3])
def judge(images, prompts):
    assert (out / "stages/unet/checkpoints/step-00000004").is_dir()
    os.kill(os.getpid(), signal.SIGKILL)
spec = SdTrainingSpec.model_validate_json(Path(sys.argv[1]).read_text())
train_sd(spec, data=read_dataset(sys.argv[2]), out=out, device="cpu", judge=judge)
"""


@pytest.mark.slow
def test_a_kill_between_a_checkpoint_and_its_validation_changes_no_bit(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(
        spec,
        training={"steps": 8, "checkpoint_every": 4, "lr": 1e-2},
        validation={"every": 4, "images": 3},
    )
    first = Brightness(lower_is_better=True)
    train_sd(spec, data=data, out=tmp_path / "first", judge=first, device="cpu")
    # the way round in which the validation at step 4 is the best, so that it matters
    lower = first.values[0] < first.values[1]
    judge = Brightness(lower_is_better=lower)
    whole = train_sd(spec, data=data, out=tmp_path / "whole", judge=judge, device="cpu")
    assert "at step 4" in (whole / "README.md").read_text()

    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    (tmp_path / "worker.py").write_text(_KILLED_AT_VALIDATION)
    command = [sys.executable, *(str(tmp_path / name) for name in ("worker.py", "spec.json"))]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [*command, str(data.root), str(tmp_path / "cut")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    again = Brightness(lower_is_better=lower)
    resumed = train_sd(spec, data=data, out=tmp_path / "cut", judge=again, device="cpu")
    assert again.values == judge.values
    assert "at step 4" in (resumed / "README.md").read_text()
    assert_same_bits(whole, resumed)


def test_the_best_weights_are_not_forgotten_in_silence_when_they_are_damaged(
    spec: SdTrainingSpec, data: Dataset, tmp_path: Path
) -> None:
    spec = changed(spec, validation={"every": 2, "images": 3})
    with pytest.raises(KilledError):
        train_sd(spec, data=data, out=tmp_path, judge=Planted(), on_progress=kill_at("unet", 5))
    (best,) = (tmp_path / "validation" / "best").glob("step-*")
    (best / "state.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"best: the weights that validated best are damaged"):
        train_sd(spec, data=data, out=tmp_path, judge=Planted())


def test_a_metric_that_is_not_measured_is_named(spec: SdTrainingSpec, data: Dataset, tmp_path: Path) -> None:
    spec = changed(spec, validation={"every": 2, "metric": "beauty"})
    with pytest.raises(TrainingError, match=r"'beauty' is not among the scores; use one of mmd"):
        train_sd(spec, data=data, out=tmp_path / "out", judge=Planted())
