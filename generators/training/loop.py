"""One training loop for every stage: seeded by step, resumable to the bit, with EMA and checkpoints."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from generators.training.checkpoint import load_checkpoint, save_checkpoint
from generators.training.spec import LoopSpec

ADAM_BETAS = (0.9, 0.99)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


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


def lr_factor(step: int, spec: LoopSpec) -> float:
    """Share of the learning rate at a step (from 0): linear warm-up, then constant or a cosine to 0."""
    if step < spec.warmup:
        return (step + 1) / spec.warmup
    if spec.lr_schedule == "constant":
        return 1.0
    done = (step - spec.warmup) / max(1, spec.steps - spec.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


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
    """Minimise a loss over the trainable parameters of ``modules``.

    ``loss(step)`` gives the loss of the batch of a step and must draw all its randomness from (seed, step).
    ``rates`` are learning rates by module name. After :meth:`run` the modules hold the averaged weights.
    """

    stage: str
    modules: Mapping[str, nn.Module]
    loss: Callable[[int], torch.Tensor]
    spec: LoopSpec
    rates: Mapping[str, float]
    checkpoints: Path
    log: JsonLog
    on_progress: OnProgress | None = None
    after_step: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        self._named: dict[str, nn.Parameter] = {}
        groups = []
        for name, module in self.modules.items():
            trainable = {f"{name}.{k}": p for k, p in module.named_parameters() if p.requires_grad}
            # Adam's updates vanish in the rounding of half precision: what is trained is held in float32
            for parameter in trainable.values():
                parameter.data = parameter.data.float()
            self._named.update(trainable)
            groups.append({"params": list(trainable.values()), "lr": self.rates[name]})
        self._optimizer = torch.optim.AdamW(
            groups, betas=ADAM_BETAS, weight_decay=self.spec.weight_decay, foreach=True
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._ema = EMAModel(self._named.values(), decay=self.spec.ema_decay, foreach=True)
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
        self._ema.copy_to(self._named.values())
        for module in self.modules.values():
            module.eval()
        loss = None if math.isnan(self._mean) else self._mean
        return LoopResult(steps=self._step, loss=loss, seconds=self._seconds, cpu_seconds=self._cpu)

    def averaged(self) -> "_Averaged":
        """A context in which the modules hold the averaged weights and are in eval mode."""
        return _Averaged(self)

    def _one_step(self) -> None:
        factor = lr_factor(self._step, self.spec)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        loss = self.loss(self._step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._named.values(), self.spec.grad_clip, foreach=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"stage {self.stage}, step {self._step}: the loss is {value}; lower lr or use float32, "
                "then run the same command: it goes on from the last checkpoint"
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.step(self._named.values())
        self._step += 1
        weight = min(0.98, 1 - 1 / self._step)
        self._mean = value if math.isnan(self._mean) else weight * self._mean + (1 - weight) * value

    def _tell(self, steps_per_second: float, *, log: bool) -> None:
        progress = Progress(
            stage=self.stage,
            step=self._step,
            steps=self.spec.steps,
            loss=self._mean,
            images_per_second=steps_per_second * self.spec.batch_size,
            seconds_left=(self.spec.steps - self._step) / steps_per_second,
        )
        if log:
            self.log.write("step", **asdict(progress))
        if self.on_progress is not None:
            self.on_progress(progress)

    def _save(self) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for (name, parameter), shadow in zip(self._named.items(), self._ema.shadow_params, strict=True):
            tensors[f"weights.{name}"] = parameter
            tensors[f"ema.{name}"] = shadow
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        state = {
            "ema_step": self._ema.optimization_step,
            "seconds": self._seconds,
            "cpu_seconds": self._cpu,
            "mean_loss": self._mean,
        }
        save_checkpoint(self.checkpoints, self._step, tensors=tensors, state=state)

    def _resume(self) -> None:
        found = load_checkpoint(self.checkpoints)
        if found is None:
            return
        tensors = found.tensors
        if {n.removeprefix("weights.") for n in tensors if n.startswith("weights.")} != self._named.keys():
            raise TrainingError(
                f"{self.checkpoints}: is of another model or has other trainable parts; "
                "use another output folder"
            )
        for (name, parameter), shadow in zip(self._named.items(), self._ema.shadow_params, strict=True):
            parameter.data.copy_(tensors[f"weights.{name}"])
            shadow.copy_(tensors[f"ema.{name}"])
            prefix = f"optimizer.{name}."
            moments = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            for key in ("exp_avg", "exp_avg_sq"):
                # like the parameter, so that its memory layout (channels last) is kept
                moments[key] = torch.empty_like(parameter).copy_(moments[key])
            self._optimizer.state[parameter] = moments
        self._ema.optimization_step = found.state["ema_step"]
        self._step, self._mean = found.step, found.state["mean_loss"]
        self._seconds, self._cpu = found.state["seconds"], found.state["cpu_seconds"]
        self.log.write("resume", stage=self.stage, step=found.step)


class _Averaged:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        loop = self._loop
        loop._ema.store(loop._named.values())
        loop._ema.copy_to(loop._named.values())
        for module in loop.modules.values():
            module.eval()

    def __exit__(self, *_: object) -> None:
        loop = self._loop
        loop._ema.restore(loop._named.values())
        for module in loop.modules.values():
            module.train()


def throughput(done: int, total: int, begun: float, *, stage: str) -> Progress:
    """Progress of a stage without a loss: ``done`` of ``total`` images since ``begun`` (perf_counter)."""
    rate = done / max(1e-9, time.perf_counter() - begun)
    left = (total - done) / rate if rate > 0 else 0.0
    return Progress(stage=stage, step=done, steps=total, loss=None, images_per_second=rate, seconds_left=left)
