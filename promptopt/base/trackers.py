"""Where numbers go while a study or a training runs: TensorBoard, Weights & Biases, MLflow, or your own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from promptopt.base.errors import PromptoptError
from promptopt.base.training.progress import OnProgress, Progress

_ALLOWED = re.compile(r"[^\w\-. /]", re.ASCII)  # what is no part of a metric's name to MLflow
NAMES = ("tensorboard", "wandb", "mlflow")


class TrackerError(PromptoptError, ValueError):
    """A tracker that cannot be used."""


class Tracker(Protocol):
    """What a place for numbers can do; any object with these methods is one."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Numbers of a step; a name may have parts, as in ``polyp/nearer``."""
        ...

    def note(self, values: Mapping[str, str]) -> None:
        """Facts in words: settings at the start, results at the end."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


def tracker(name: str, *, folder: Path, run: str) -> Tracker:
    """A tracker by name.

    Args:
        name: one of `NAMES`.
        folder: of TensorBoard's files.
        run: what W&B and MLflow call the run; their own settings come from their environment variables.

    Raises:
        TrackerError: another name, or the package is not installed.

    Example:
        >>> import tempfile
        >>> one = tracker("tensorboard", folder=Path(tempfile.mkdtemp()), run="first")
        >>> one.log({"score": 0.5}, step=1)
        >>> one.close()
    """
    kinds: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
    if name not in kinds:
        raise TrackerError("is no tracker", value=name, remedy=f"Choose {', '.join(NAMES)}.")
    try:
        found: Tracker = kinds[name](folder=folder, run=run)
    except ImportError as error:
        raise TrackerError(
            f"{name} is not installed ({error})", remedy=f"pip install {name}, or choose another tracker."
        ) from error
    return found


def training_events(tracker: Tracker) -> OnProgress:
    """For the ``on_progress`` of a training: each stage's loss and speed by step."""

    def on_progress(event: Progress) -> None:
        values = {f"{event.stage}/images_per_second": event.images_per_second}
        if event.loss is not None:
            values[f"{event.stage}/loss"] = event.loss
        tracker.log(values, step=event.step)

    return on_progress


class TensorBoard:
    """Event files in a folder, for ``tensorboard --logdir``."""

    def __init__(self, *, folder: Path, run: str = "") -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """As `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def note(self, values: Mapping[str, str]) -> None:
        """As `Tracker`."""
        for name, value in values.items():
            self._writer.add_text(name, value)

    def close(self) -> None:
        """As `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of W&B; numbers in its history, words in its summary."""

    def __init__(self, *, folder: Path, run: str) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(project="promptopt", name=run, dir=str(folder))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """As `Tracker`; each name keeps steps of its own, since classes of a study count theirs apart."""
        self._run.log({**values, **{f"{name}/step": step for name in {_group(key) for key in values}}})

    def note(self, values: Mapping[str, str]) -> None:
        """As `Tracker`."""
        self._run.summary.update(dict(values))

    def close(self) -> None:
        """As `Tracker`."""
        self._run.finish()


class MLflow:
    """A run of MLflow, at its own tracking address (MLFLOW_TRACKING_URI)."""

    def __init__(self, *, folder: Path, run: str) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        mlflow.start_run(run_name=run)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """As `Tracker`."""
        named = {_ALLOWED.sub("_", name): float(value) for name, value in values.items()}
        self._mlflow.log_metrics(named, step=step)

    def note(self, values: Mapping[str, str]) -> None:
        """As `Tracker`."""
        for name, value in values.items():
            self._mlflow.set_tag(name, value)

    def close(self) -> None:
        """As `Tracker`."""
        self._mlflow.end_run()


def _group(name: str) -> str:
    return name.rpartition("/")[0] or "study"
