"""Numbers of studies and trainings in trackers: TensorBoard for real, others as modules that take notes."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from promptopt.base.trackers import TrackerError, tracker, training_events
from promptopt.base.training.progress import Progress
from promptopt.study.observer import Observer, Observers
from promptopt.study.sets.run import SetResult
from promptopt.study.tracking import Tracking
from tests.promptopt.set_run import square_study


class Steps(Observer):
    def __init__(self) -> None:
        self.seen: list = []

    def on_step(self, step) -> None:
        self.seen.append(step)


@pytest.mark.slow
def test_a_study_in_tensorboard(tmp_path: Path, shifted_data: Path) -> None:
    found = tracker("tensorboard", folder=tmp_path / "board", run="squares")
    steps = Steps()
    study = square_study(tmp_path, shifted_data, confirm={"images": 4, "classifier": None})
    result = study.run(observer=Observers(steps, Tracking(found)))
    study.run(observer=Tracking(found))  # what was read from the run is not sent again
    found.close()
    assert isinstance(result, SetResult)
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    for label in ("red", "blue"):
        told = [(one.step, one.images) for one in steps.seen if one.label == label]
        assert [(e.step, e.value) for e in board.Scalars(f"{label}/images")] == told
    (text,) = {e.tensor_proto.string_val[0] for e in board.Tensors("result/text_summary")}
    assert text.decode() == result.sets.sentence


def test_a_training_in_tensorboard(tmp_path: Path) -> None:
    found = tracker("tensorboard", folder=tmp_path, run="")
    tell = training_events(found)
    for step in (1, 2):
        tell(Progress("unet", step, 2, loss=1 / step, images_per_second=8.0, seconds_left=0.0))
    tell(Progress("class images", 3, 3, loss=None, images_per_second=2.0, seconds_left=0.0))
    found.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("unet/loss")] == [(1, 1.0), (2, 0.5)]
    assert [e.value for e in board.Scalars("class images/images_per_second")] == [2.0]


def test_wandb_and_mlflow_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list = []
    run = SimpleNamespace(
        log=lambda values: calls.append(("wandb", values)),
        summary={},
        finish=lambda: calls.append(("wandb", "closed")),
    )
    wandb, mlflow = ModuleType("wandb"), ModuleType("mlflow")
    wandb.init = lambda **settings: calls.append(("wandb", settings["name"])) or run  # type: ignore[attr-defined]
    mlflow.start_run = lambda run_name: calls.append(("mlflow", run_name))  # type: ignore[attr-defined]
    mlflow.log_metrics = lambda values, step: calls.append(("mlflow", values, step))  # type: ignore[attr-defined]
    mlflow.set_tag = lambda name, value: calls.append(("mlflow", name, value))  # type: ignore[attr-defined]
    mlflow.end_run = lambda: calls.append(("mlflow", "closed"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    for name in ("wandb", "mlflow"):
        found = tracker(name, folder=tmp_path / name, run="first")
        found.log({"übel/nearer": 0.5}, step=3)
        found.note({"result": "none"})
        found.close()
    assert calls[:3] == [
        ("wandb", "first"),
        ("wandb", {"übel/nearer": 0.5, "übel/step": 3}),
        ("wandb", "closed"),
    ]
    assert run.summary == {"result": "none"}
    assert calls[3:] == [
        ("mlflow", "first"),
        ("mlflow", {"_bel/nearer": 0.5}, 3),
        ("mlflow", "result", "none"),
        ("mlflow", "closed"),
    ]


def test_unknown_and_missing_trackers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackerError, match="tensorboard, wandb, mlflow"):
        tracker("comet", folder=tmp_path, run="x")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackerError, match="pip install wandb"):
        tracker("wandb", folder=tmp_path, run="x")
