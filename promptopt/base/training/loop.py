"""One training loop for all networks: seeded by step, resumable to the bit, on any number of devices."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from promptopt.base.machine import full_disk, is_full_disk, is_out_of_memory, release_memory
from promptopt.base.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.place import OneProcess
from promptopt.base.training.progress import JsonLog, OnProgress, Progress
from promptopt.base.training.schedule import Schedule

logger = logging.getLogger(__name__)

_LARGEST_WEIGHT = 65504.0
"""What float16 holds; a weight beyond it cannot be exported, and no network that has learned has one."""

_LARGEST_LOSS = 1e6
"""Of the first loss, or of 1 if that is larger: what is trained here begins near 1."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a loss is minimized.

    Args:
        steps: optimizer steps, each over `batch_size` images, all devices together.
        optimizer: built from the trainable parameters, named "module.parameter". A "name" in its groups is
            what their rates are called in the log.
        schedule: sets the groups before every step.
        passes: parts in which each device takes its share of a batch (gradient accumulation).
        grad_clip: largest norm of the gradient; None: no clipping.
        ema_decay: of the average of the weights, which the modules hold at the end; None: the last weights.
        checkpoint_every: steps between checkpoints.
        step_seed: step -> seed of torch's global state (dropout draws from it) within that step; None leaves
            that state alone, and then no training with random layers resumes to the same bits.
        if_diverged: what to change if the loss is not finite.
        if_out_of_memory: images a pass -> what to change.
        divisible: whether `Loop.loss` can be asked for a part of a batch: then memory that runs out halves
            the images of a pass, with the same result but for rounding (and for what dropout draws).
    """

    steps: int
    batch_size: int
    optimizer: Callable[[Mapping[str, nn.Parameter]], torch.optim.Optimizer]
    schedule: Schedule
    passes: int = 1
    grad_clip: float | None = None
    ema_decay: float | None = None
    checkpoint_every: int = 500
    step_seed: Callable[[int], int] | None = None
    if_diverged: str = "lower the learning rate"
    if_out_of_memory: Callable[[int], str] = lambda rows: "take a smaller batch_size"
    divisible: bool = True


@dataclass(frozen=True)
class LoopResult:
    """The end of a stage; wall-clock ``seconds`` and ``cpu_seconds`` are summed over its sessions."""

    steps: int
    loss: float | None
    seconds: float
    cpu_seconds: float


@dataclass
class Loop:
    """Minimize a loss over the trainable parameters of ``modules``.

    ``loss(step, rows)`` gives the part that these rows of a step's batch have in its loss: the parts of all
    rows add up to the whole, so that a batch may be shared out over passes and devices. For a training that
    resumes to the same bits it draws all its randomness from the step.

    Args:
        stage: name in progress events and messages.
        checkpoints: folder of the checkpoints; None: none are written.
        log: takes a line now and then.
        place: devices and precision, a `OneProcess` or an ``accelerate.Accelerator``.
        after_update: called after each optimizer step, before anything is kept of it.
        after_step: called with each step, after its checkpoint, and once more with the step of the checkpoint
            that a run goes on from, since a kill may have come between the two.
        tell: takes the mean loss and the learning rates now and then, for a tracker.
    """

    stage: str
    modules: Mapping[str, nn.Module]
    loss: Callable[[int, slice], torch.Tensor]
    method: Method
    checkpoints: Path | None = None
    log: JsonLog | None = None
    place: OneProcess = OneProcess()  # noqa: RUF009 - immutable
    on_progress: OnProgress | None = None
    after_update: Callable[[], None] | None = None
    after_step: Callable[[int], None] | None = None
    tell: Callable[[int, dict[str, float]], None] | None = None
    named: dict[str, nn.Parameter] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name, module in self.modules.items():
            trainable = {f"{name}.{k}": p for k, p in module.named_parameters() if p.requires_grad}
            # Adam's updates vanish in the rounding of half precision: what is trained is held in float32
            for parameter in trainable.values():
                parameter.data = parameter.data.float()
            self.named.update(trainable)
        self._shares = _shares(self.method, processes=self.place.num_processes)
        self._optimizer = self.place.prepare_optimizer(
            self.method.optimizer(self.named), device_placement=False
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._ema: Any = None
        if self.method.ema_decay is not None:
            from diffusers.training_utils import EMAModel

            self._ema = EMAModel(self.named.values(), decay=self.method.ema_decay, foreach=True)
        self._step, self._seconds, self._cpu = 0, 0.0, 0.0
        self._mean, self._first_loss = math.nan, math.nan

    def run(self) -> LoopResult:
        """Go from the last whole checkpoint, if there is one, to the last step.

        Raises:
            TrainingError: the checkpoint is of another network, cannot be written, memory is short, or the
                training diverges, which is noticed before a checkpoint is written.
        """
        resumed = self._resume()
        begun, cpu = time.perf_counter(), time.process_time()
        first, told, before, cpu_before = self._step, 0.0, self._seconds, self._cpu
        self._train(True)
        if resumed and self.after_step is not None:
            self.after_step(self._step)
        while self._step < self.method.steps:
            self._one_step()
            elapsed = time.perf_counter() - begun
            self._seconds, self._cpu = before + elapsed, cpu_before + time.process_time() - cpu
            last = self._step == self.method.steps
            if self._step % self.method.checkpoint_every == 0 or last:
                self._checkpoint()
            log = last or elapsed - told >= 1.0
            told = elapsed if log else told
            self._tell((self._step - first) / elapsed, log=log)
            if self.after_step is not None:
                self.after_step(self._step)
        if self._ema is not None:
            self._ema.copy_to(self.named.values())
        self._train(False)
        loss = None if math.isnan(self._mean) else self._mean
        return LoopResult(steps=self._step, loss=loss, seconds=self._seconds, cpu_seconds=self._cpu)

    @contextmanager
    def averaged(self) -> Iterator[dict[str, nn.Parameter]]:
        """The modules hold the averaged weights, in eval mode; gives the parameters by name."""
        if self._ema is not None:
            self._ema.store(self.named.values())
            self._ema.copy_to(self.named.values())
        self._train(False)
        try:
            yield self.named
        finally:
            if self._ema is not None:
                self._ema.restore(self.named.values())
            self._train(True)

    def _train(self, mode: bool) -> None:
        for module in self.modules.values():
            module.train(mode)

    def _one_step(self) -> None:
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group.update(self.method.schedule(self._step, rate))
        number = self._passes(backward=True)
        if self.place.num_processes > 1:
            for parameter in self.named.values():
                if parameter.grad is not None:
                    parameter.grad = self.place.reduce(parameter.grad, "sum")
        self.place.unscale_gradients(self._optimizer)
        if self.method.grad_clip is not None:
            norm = nn.utils.clip_grad_norm_(self.named.values(), self.method.grad_clip, foreach=True)
            # a scaler of half precision skips such a step and scales down
            if self.place.scaler is None and not math.isfinite(float(norm)):
                raise self._diverged(f"the gradient's norm is {float(norm)}")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self.after_update is not None:
            self.after_update()
        if self._ema is not None:
            self._ema.step(self.named.values())
        self._step += 1
        weight = min(0.98, 1 - 1 / self._step)
        self._mean = number if math.isnan(self._mean) else weight * self._mean + (1 - weight) * number

    def _passes(self, *, backward: bool) -> float:
        """The loss of the step, over all passes and devices; raises TrainingError if it is out of bounds."""
        value = self._own_passes(backward=backward)
        if self.place.num_processes > 1:
            value = self.place.reduce(value, "sum")
        number = float(value)
        if math.isnan(self._first_loss):
            self._first_loss = number
        if not number <= _LARGEST_LOSS * max(1.0, self._first_loss) or not math.isfinite(number):
            raise self._diverged(f"the loss is {number:.4g}")
        return number

    def _own_passes(self, *, backward: bool) -> torch.Tensor:
        """The loss of this process's rows; where memory runs out, all of them anew in smaller passes."""
        while True:
            try:
                value = torch.zeros((), device=self.place.device)
                with self._step_state():
                    for rows in self._shares[self.place.process_index]:
                        loss = self.loss(self._step, rows)
                        if backward:
                            self.place.backward(loss)
                        value += loss.detach()
                return value
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            # the exception is gone here, and with it the tensors that its frames held
            loss = None  # type: ignore[assignment]
            self._optimizer.zero_grad(set_to_none=True)
            release_memory()

    def _halve(self, error: BaseException) -> None:
        """Half the rows in each pass from now on; TrainingError where they cannot be divided further."""
        mine = self._shares[self.place.process_index]
        images = max(rows.stop - rows.start for rows in mine)
        normalized = any(isinstance(m, _BatchNorm) for own in self.modules.values() for m in own.modules())
        if images == 1 or normalized or not self.method.divisible:
            raise TrainingError(
                f"stage {self.stage}, step {self._step}: {self.place.device} ran out of memory with "
                f"{images} images a pass; {self.method.if_out_of_memory(images)}. Checkpoints are kept"
            ) from error
        halves = [(rows, (rows.start + rows.stop + 1) // 2) for rows in mine]
        self._shares[self.place.process_index] = [
            slice(*ends)
            for rows, middle in halves
            for ends in ((rows.start, middle), (middle, rows.stop))
            if ends[0] < ends[1]
        ]
        logger.warning(
            "stage %s, step %d: out of memory with %d images a pass; from now on there are %d, and as many "
            "passes more: the result is the same",
            self.stage, self._step, images, (images + 1) // 2,
        )  # fmt: skip

    @contextmanager
    def _step_state(self) -> Iterator[None]:
        """What draws from the global state (dropout) must not depend on what was drawn before a kill."""
        if self.method.step_seed is None:
            yield
            return
        devices = [self.place.device] if self.place.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.method.step_seed(self._step))
            yield

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"stage {self.stage}, step {self._step}: the training diverged, {what}; {self.method.if_diverged}"
        )

    def _check_weights(self) -> None:
        largest = float(torch.stack([p.detach().abs().max() for p in self.named.values()]).max())
        if not largest <= _LARGEST_WEIGHT:
            raise self._diverged(f"a weight is {largest:.4g}")

    def _tell(self, steps_per_second: float, *, log: bool) -> None:
        if not self.place.is_main_process:
            return
        progress = Progress(
            stage=self.stage,
            step=self._step,
            steps=self.method.steps,
            loss=self._mean,
            images_per_second=steps_per_second * self.method.batch_size,
            seconds_left=(self.method.steps - self._step) / steps_per_second,
        )
        if log and self.log is not None:
            self.log.write("step", **asdict(progress))
        if log and self.tell is not None:
            groups = enumerate(self._optimizer.param_groups)
            rates = {f"lr/{group.get('name', number)}": group["lr"] for number, group in groups}
            speed = {"images_per_second": progress.images_per_second}
            self.tell(self._step, {"loss": self._mean, **rates, **speed})
        if self.on_progress is not None:
            self.on_progress(progress)

    def _checkpoint(self) -> None:
        """Keep the state, unless the training has diverged: the step just made is tried on the next batch."""
        self._check_weights()
        if self.checkpoints is None:
            return
        buffers = [(buffer, buffer.clone()) for m in self.modules.values() for buffer in m.buffers()]
        self._passes(backward=False)
        for buffer, value in buffers:
            buffer.copy_(value)
        if self.place.is_main_process:
            try:
                save_checkpoint(self.checkpoints, self._step, tensors=self._tensors(), state=self._state())
            except (OSError, SafetensorError) as error:
                what = f"the checkpoint of step {self._step} cannot be written"
                if is_full_disk(error):
                    raise TrainingError(f"{what}: {full_disk(error, [self.checkpoints])}") from error
                raise TrainingError(
                    f"{self.checkpoints}: {what} ({getattr(error, 'strerror', None) or error}); see to it, "
                    "then run the same command: it goes on from the last one"
                ) from error
        self.place.wait_for_everyone()

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {f"weights.{name}": p for name, p in self.named.items()}
        tensors |= {f"buffers.{name}": buffer for name, buffer in self._buffers().items()}
        if self._ema is not None:
            shadows = zip(self.named, self._ema.shadow_params, strict=True)
            tensors |= {f"ema.{name}": shadow for name, shadow in shadows}
        for name, parameter in self.named.items():
            for key, value in self._optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{name}.{key}"] = value
        return tensors

    def _state(self) -> dict[str, Any]:
        scalars: dict[str, Any] = {}
        for name, parameter in self.named.items():
            for key, value in self._optimizer.state[parameter].items():
                if not isinstance(value, torch.Tensor):
                    scalars.setdefault(name, {})[key] = value
        return {
            "ema_step": None if self._ema is None else self._ema.optimization_step,
            "seconds": self._seconds,
            "cpu_seconds": self._cpu,
            "mean_loss": self._mean,
            "first_loss": self._first_loss,
            "optimizer": scalars,
            "scaler": self.place.scaler.state_dict() if self.place.scaler else {},
        }

    def _buffers(self) -> dict[str, torch.Tensor]:
        """What modules keep beside parameters, such as the running means of batch normalization."""
        buffers: dict[str, torch.Tensor] = {}
        for name, module in self.modules.items():
            lasting = module.state_dict().keys()
            buffers |= {f"{name}.{key}": b for key, b in module.named_buffers() if key in lasting}
        return buffers

    def _resume(self) -> bool:
        kept = None if self.checkpoints is None else load_checkpoint(self.checkpoints)
        if kept is None:
            return False
        tensors, buffers = kept.tensors, self._buffers()
        if {n.removeprefix("weights.") for n in tensors if n.startswith("weights.")} != self.named.keys():
            raise TrainingError(
                f"{self.checkpoints}: is of another model or has other trainable parts; "
                "use another output folder"
            )
        for name, parameter in self.named.items():
            parameter.data.copy_(tensors[f"weights.{name}"])
            self._optimizer.state[parameter] = _moments(kept, name, parameter)
        for name, buffer in buffers.items():
            buffer.copy_(tensors[f"buffers.{name}"])
        if self._ema is not None:
            for name, shadow in zip(self.named, self._ema.shadow_params, strict=True):
                shadow.copy_(tensors[f"ema.{name}"])
            self._ema.optimization_step = kept.state["ema_step"]
        if self.place.scaler:
            self.place.scaler.load_state_dict(kept.state["scaler"])
        self._step, self._mean = kept.step, kept.state["mean_loss"]
        self._seconds, self._cpu = kept.state["seconds"], kept.state["cpu_seconds"]
        self._first_loss = kept.state["first_loss"]
        if self.log is not None:
            self.log.write("resume", stage=self.stage, step=kept.step)
        return True


def _shares(method: Method, *, processes: int) -> list[list[slice]]:
    """Rows of a batch by process and pass."""
    passes = processes * method.passes
    if method.batch_size % passes:
        raise TrainingError(
            f"batch_size {method.batch_size} cannot be shared evenly over {processes} devices in "
            f"{method.passes} passes each; take a multiple of {passes}"
        )
    rows = method.batch_size // passes
    slices = [slice(start, start + rows) for start in range(0, method.batch_size, rows)]
    return [slices[process * method.passes :][: method.passes] for process in range(processes)]


def _moments(kept: Checkpoint, name: str, parameter: nn.Parameter) -> dict[str, Any]:
    """The optimizer's state of a parameter, where the optimizer wants it."""
    prefix = f"optimizer.{name}."
    moments: dict[str, Any] = dict(kept.state["optimizer"].get(name, {}))
    for full, tensor in kept.tensors.items():
        if full.startswith(prefix):
            if tensor.shape == parameter.shape and tensor.ndim:
                # like the parameter, so that its memory layout (channels last) is kept
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            elif tensor.ndim:
                tensor = tensor.to(parameter.device)
            moments[full.removeprefix(prefix)] = tensor
    return moments
