"""Where training runs and in which precision: accelerate's business, one Accelerator a stage."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from promptopt.base.devices import resolve_device
from promptopt.base.training.errors import TrainingError

_PRECISIONS = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerator(
    *, device: str, precision: str, tracker: str = "none", folder: Path | None = None
) -> Accelerator:
    """An Accelerator for a stage; a tracker ("tensorboard", "wandb", "mlflow") writes into ``folder``.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N". Under ``accelerate launch`` every process has its own.
        precision: "float32", "bf16" or "fp16", of the passes.

    Raises:
        TrainingError: the device is not there or cannot compute in that precision, or the tracker is not
            installed.
    """
    launched = "LOCAL_RANK" in os.environ
    chosen = resolve_device(device, error=TrainingError)
    if precision == "fp16" and chosen.type == "cpu":
        raise TrainingError("precision fp16 needs a GPU; use float32 or bf16 on the CPU")
    if chosen.index is not None and not launched:
        torch.cuda.set_device(chosen)
    # accelerate keeps its state in the process, and two stages may differ in precision and device
    AcceleratorState._reset_state(reset_partial_state=not launched)
    if tracker != "none" and find_spec(tracker) is None:
        raise TrainingError(
            f"tracker {tracker} is not installed; pip install {tracker}, or set tracker to none"
        )
    try:
        place = Accelerator(
            mixed_precision=_PRECISIONS[precision],
            cpu=chosen.type == "cpu",
            log_with=None if tracker == "none" else tracker,
            project_dir=folder,
        )
    except ValueError as error:
        raise TrainingError(f"precision {precision} on {chosen}: {error}; use float32 or bf16") from error
    if tracker != "none":
        place.init_trackers("tracker")
    return place
