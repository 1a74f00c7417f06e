"""One training loop for every stage: seeded by step, resumable to the bit, on any number of devices."""

import errno
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from generators.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from generators.training.optimizer import build_optimizer, lr_schedule
from generators.training.spec import LoopSpec
from promptopt.base.training.errors import TrainingError


@dataclass(frozen=True)
class Progress:
    """Where a stage is. ``loss`` is a running mean; None where a stage has no loss."""

    stage: str
    step: int
    steps: int
    loss: float | None
    images_per_second: float
    seconds_left: float


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class LoopResult:
    """The end of a stage; wall-clock ``seconds`` and ``cpu_seconds`` are summed over its sessions."""

    steps: int
    loss: float | None
    seconds: float
    cpu_seconds: float


def seeded(seed: int, purpose: str, number: int) -> torch.Generator:
    """A CPU generator that depends on nothing but these three."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class DataOrder:
    """An endless stream of epochs, each a permutation from (seed, epoch); any step can be asked for."""

    def __init__(self, size: int, *, batch_size: int, seed: int) -> None:
        self._size, self._batch, self._seed = size, batch_size, seed
        self._permutations: dict[int, list[int]] = {}

    def batch(self, step: int) -> list[int]:
        """Indices of the samples of a step; a batch may begin in one epoch and end in the next."""
        places = range(step * self._batch, (step + 1) * self._batch)
        return [self._permutation(place // self._size)[place % self._size] for place in places]

    def _permutation(self, epoch: int) -> list[int]:
        if epoch not in self._permutations:
            for old in [e for e in self._permutations if e < epoch - 1]:
                del self._permutations[old]
            order = torch.randperm(self._size, generator=seeded(self._seed, "epoch", epoch))
            self._permutations[epoch] = order.tolist()
        return self._permutations[epoch]


class JsonLog:
    """JSON lines appended to a file, one an event."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: object) -> None:
        """Append one line with the event's name and its values."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, **values}, allow_nan=False) + "\n")


@dataclass
class Loop:
    """Minimize a loss over the trainable parameters of ``modules``.

    ``loss(step, rows)`` gives the part that these rows of a step's batch have in its loss: the parts of all
    rows add up to the whole, so that a batch may be shared out over passes and devices. It must draw all its
    randomness from (seed, step). ``rates`` are learning rates by module name. ``tell`` is given the mean loss
    and the learning rates now and then, for a tracker. After :meth:`run` the modules hold the averages.
    """

    stage: str
    modules: Mapping[str, nn.Module]
    loss: Callable[[int, slice], torch.Tensor]
    spec: LoopSpec
    rates: Mapping[str, float]
    checkpoints: Path
    log: JsonLog
    accelerator: Accelerator
    on_progress: OnProgress | None = None
    after_step: Callable[[int], None] | None = None
    tell: Callable[[int, dict[str, float]], None] | None = None
    named: dict[str, nn.Parameter] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        groups: list[dict[str, Any]] = []
        for name, module in self.modules.items():
            trainable = {f"{name}.{k}": p for k, p in module.named_parameters() if p.requires_grad}
            # Adam's updates vanish in the rounding of half precision: what is trained is held in float32
            for parameter in trainable.values():
                parameter.data = parameter.data.float()
            self.named.update(trainable)
            groups.append({"params": list(trainable.values()), "lr": self.rates[name]})
        self._shares = _shares(self.spec, processes=self.accelerator.num_processes)
        self._optimizer = self.accelerator.prepare_optimizer(
            build_optimizer(groups, self.spec), device_placement=False
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._factor = lr_schedule(self.spec)
        self._ema = EMAModel(self.named.values(), decay=self.spec.ema_decay, foreach=True)
        self._step, self._seconds, self._cpu, self._mean = 0, 0.0, 0.0, float("nan")

    def run(self) -> LoopResult:
        """Go from the last checkpoint, if there is one, to the last step. May raise TrainingError."""
        self._resume()
        spec, begun, cpu = self.spec, time.perf_counter(), time.process_time()
        first, told, before, cpu_before = self._step, 0.0, self._seconds, self._cpu
        for module in self.modules.values():
            module.train()
        while self._step < spec.steps:
            self._one_step()
            elapsed = time.perf_counter() - begun
            self._seconds, self._cpu = before + elapsed, cpu_before + time.process_time() - cpu
            last = self._step == spec.steps
            if self._step % spec.checkpoint_every == 0 or last:
                self._save()
            log = last or elapsed - told >= 1.0
            told = elapsed if log else told
            self._tell((self._step - first) / elapsed, log=log)
            if self.after_step is not None:
                self.after_step(self._step)
        self._ema.copy_to(self.named.values())
        for module in self.modules.values():
            module.eval()
        loss = None if math.isnan(self._mean) else self._mean
        return LoopResult(steps=self._step, loss=loss, seconds=self._seconds, cpu_seconds=self._cpu)

    @contextmanager
    def averaged(self) -> Iterator[dict[str, nn.Parameter]]:
        """The modules hold the averaged weights, in eval mode; gives the parameters by name."""
        self._ema.store(self.named.values())
        self._ema.copy_to(self.named.values())
        for module in self.modules.values():
            module.eval()
        try:
            yield self.named
        finally:
            self._ema.restore(self.named.values())
            for module in self.modules.values():
                module.train()

    def _one_step(self) -> None:
        factor = self._factor(self._step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        value = torch.zeros((), device=self.accelerator.device)
        # what draws from the global state (dropout) must not depend on what was drawn before a kill
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(seeded(self.spec.seed, self.stage, self._step).initial_seed()))
            for rows in self._shares[self.accelerator.process_index]:
                value += self._backward(rows)
        if self.accelerator.num_processes > 1:
            for parameter in self.named.values():
                parameter.grad = self.accelerator.reduce(parameter.grad, "sum")
            value = self.accelerator.reduce(value, "sum")
        self.accelerator.unscale_gradients(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.named.values(), self.spec.grad_clip, foreach=True)
        number = float(value)
        if not math.isfinite(number):
            raise TrainingError(
                f"stage {self.stage}, step {self._step}: the loss is {number}; lower lr or use float32, "
                "then run the same command: it goes on from the last checkpoint"
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.step(self.named.values())
        self._step += 1
        weight = min(0.98, 1 - 1 / self._step)
        self._mean = number if math.isnan(self._mean) else weight * self._mean + (1 - weight) * number

    def _backward(self, rows: slice) -> torch.Tensor:
        try:
            loss = self.loss(self._step, rows)
            self.accelerator.backward(loss)
        except torch.OutOfMemoryError as error:
            passes = self.spec.gradient_accumulation
            remedy = (
                f"set gradient_accumulation to {2 * passes}: the same training in smaller passes"
                if rows.stop - rows.start > 1
                else "set gradient_checkpointing to true, precision to bf16, or take a smaller size"
            )
            raise TrainingError(
                f"stage {self.stage}, step {self._step}: {self.accelerator.device} ran out of memory with "
                f"{rows.stop - rows.start} images a pass; {remedy}. Checkpoints are kept"
            ) from error
        return loss.detach()

    def _tell(self, steps_per_second: float, *, log: bool) -> None:
        progress = Progress(
            stage=self.stage,
            step=self._step,
            steps=self.spec.steps,
            loss=self._mean,
            images_per_second=steps_per_second * self.spec.batch_size,
            seconds_left=(self.spec.steps - self._step) / steps_per_second,
        )
        if log and self.accelerator.is_main_process:
            self.log.write("step", **asdict(progress))
            if self.tell is not None:
                rates = {
                    f"lr/{n}": g["lr"]
                    for n, g in zip(self.modules, self._optimizer.param_groups, strict=True)
                }
                speed = {"images_per_second": progress.images_per_second}
                self.tell(self._step, {"loss": self._mean, **rates, **speed})
        if self.on_progress is not None and self.accelerator.is_main_process:
            self.on_progress(progress)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            tensors: dict[str, torch.Tensor] = {}
            scalars: dict[str, Any] = {}
            for (name, parameter), shadow in zip(self.named.items(), self._ema.shadow_params, strict=True):
                tensors[f"weights.{name}"] = parameter
                tensors[f"ema.{name}"] = shadow
                for key, value in self._optimizer.state[parameter].items():
                    if isinstance(value, torch.Tensor):
                        tensors[f"optimizer.{name}.{key}"] = value
                    else:
                        scalars.setdefault(name, {})[key] = value
            state = {
                "ema_step": self._ema.optimization_step,
                "seconds": self._seconds,
                "cpu_seconds": self._cpu,
                "mean_loss": self._mean,
                "optimizer": scalars,
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            }
            try:
                save_checkpoint(self.checkpoints, self._step, tensors=tensors, state=state)
            except OSError as error:
                full = "; the disk is full: make room" if error.errno == errno.ENOSPC else "; see to it"
                raise TrainingError(
                    f"{self.checkpoints}: the checkpoint of step {self._step} cannot be written "
                    f"({error.strerror or error}){full}, then run the same command: "
                    "it goes on from the last one"
                ) from error
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = load_checkpoint(self.checkpoints)
        if found is None:
            return
        tensors = found.tensors
        if {n.removeprefix("weights.") for n in tensors if n.startswith("weights.")} != self.named.keys():
            raise TrainingError(
                f"{self.checkpoints}: is of another model or has other trainable parts; "
                "use another output folder"
            )
        for (name, parameter), shadow in zip(self.named.items(), self._ema.shadow_params, strict=True):
            parameter.data.copy_(tensors[f"weights.{name}"])
            shadow.copy_(tensors[f"ema.{name}"])
            self._optimizer.state[parameter] = _moments(found, name, parameter)
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(found.state["scaler"])
        self._ema.optimization_step = found.state["ema_step"]
        self._step, self._mean = found.step, found.state["mean_loss"]
        self._seconds, self._cpu = found.state["seconds"], found.state["cpu_seconds"]
        self.log.write("resume", stage=self.stage, step=found.step)


def _shares(spec: LoopSpec, *, processes: int) -> list[list[slice]]:
    """Rows of a batch by process and pass."""
    passes = processes * spec.gradient_accumulation
    if spec.batch_size % passes:
        raise TrainingError(
            f"batch_size {spec.batch_size} cannot be shared evenly over {processes} devices in "
            f"{spec.gradient_accumulation} passes each; take a multiple of {passes}"
        )
    rows = spec.batch_size // passes
    slices = [slice(start, start + rows) for start in range(0, spec.batch_size, rows)]
    k = spec.gradient_accumulation
    return [slices[process * k : (process + 1) * k] for process in range(processes)]


def _moments(found: Checkpoint, name: str, parameter: nn.Parameter) -> dict[str, Any]:
    """The optimizer's state of a parameter, where the optimizer wants it."""
    prefix = f"optimizer.{name}."
    moments: dict[str, Any] = dict(found.state["optimizer"].get(name, {}))
    for full, tensor in found.tensors.items():
        if full.startswith(prefix):
            if tensor.shape == parameter.shape and tensor.ndim:
                # like the parameter, so that its memory layout (channels last) is kept
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            elif tensor.ndim:
                tensor = tensor.to(parameter.device)
            moments[full.removeprefix(prefix)] = tensor
    return moments


def throughput(done: int, total: int, begun: float, *, stage: str) -> Progress:
    """Progress of a stage without a loss: ``done`` of ``total`` images since ``begun`` (perf_counter)."""
    rate = done / max(1e-9, time.perf_counter() - begun)
    left = (total - done) / rate if rate > 0 else 0.0
    return Progress(stage=stage, step=done, steps=total, loss=None, images_per_second=rate, seconds_left=left)
