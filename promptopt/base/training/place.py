"""Where a loop runs: one process on one device; for more, ``accelerate.Accelerator`` takes its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class OneProcess:
    """The part of accelerate's ``Accelerator`` that the loop uses, for one process in float32."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True
    scaler: Any = None

    def prepare_optimizer(self, optimizer: Any, *, device_placement: bool) -> Any:
        """The optimizer as it is."""
        return optimizer

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss."""
        loss.backward()

    def unscale_gradients(self, optimizer: Any) -> None:
        """Nothing: float32 needs no scaling."""

    def reduce(self, value: torch.Tensor, how: str) -> torch.Tensor:
        """The value: there is no other process to add."""
        return value

    def wait_for_everyone(self) -> None:
        """Nothing: there is no other process."""
