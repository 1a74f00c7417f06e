"""The loop both trainers run: warm-up and cosine learning rate, clipping, progress, exact resume.

Nothing depends on where a run was cut: the order of the data follows from (seed, epoch), every other choice
from (seed, step), and one file holds the weights, the optimizer and the counters.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.training.recipe import ClipSpec, JudgeSpec
from promptopt.base.training.errors import TrainingError

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: ``step`` of ``steps`` are done, ``loss`` is a running mean."""

    stage: str
    step: int
    steps: int
    loss: float
    images_per_second: float
    seconds_left: float


OnProgress = Callable[[Progress], None]


def rng_for(*key: int) -> np.random.Generator:
    """A random stream of its own for a key such as (seed, purpose, step)."""
    return np.random.default_rng(np.random.SeedSequence(list(key)))


def learning_rate_at(step: int, spec: ClipSpec | JudgeSpec) -> float:
    """Linear warm-up, then a half cosine that reaches zero one step after the last."""
    warmup = min(spec.warmup_steps, spec.steps // 2)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (spec.steps - warmup)))


def make_optimizer(module: nn.Module, spec: ClipSpec | JudgeSpec) -> torch.optim.AdamW:
    """AdamW; gains, biases and scalars get no weight decay, as in open_clip."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=spec.betas, eps=1e-6)


def run(
    module: nn.Module,
    spec: ClipSpec | JudgeSpec,
    *,
    out: Path,
    identity: str,
    loss_at: Callable[[int], Tensor],
    after_step: Callable[[], None] | None = None,
    on_progress: OnProgress | None = None,
) -> float:
    """Train ``module`` to ``spec.steps``, from the checkpoint in ``out`` if there is one; returns CPU seconds
    used.

    ``identity`` names everything the run follows from; a checkpoint of another run is refused
    (TrainingError).
    """
    optimizer = make_optimizer(module, spec)
    file = out / CHECKPOINT
    done, cpu_before, mean_loss = 0, 0.0, None
    if file.exists():
        state = _restore(file, module, optimizer, identity)
        done, cpu_before, mean_loss = int(state["step"]), float(state["cpu_seconds"]), state["loss"]
    cpu_start, clock_start, first = time.process_time(), time.monotonic(), done
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
    module.train()
    for step in range(done, spec.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, spec)
        # Layers that draw (dropout, patch dropout) use torch's global stream: tie it to the step, then put it
        # back.
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(rng_for(spec.seed, 99, step).integers(2**31)))
            loss = loss_at(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is not finite at step {step + 1}; lower learning_rate ({spec.learning_rate}) "
                "and start anew"
            )
        nn.utils.clip_grad_norm_(module.parameters(), spec.gradient_clip)
        optimizer.step()
        if after_step is not None:
            after_step()
        mean_loss = value if mean_loss is None else 0.95 * mean_loss + 0.05 * value
        now = step + 1
        if now % spec.save_every == 0 or now == spec.steps:
            cpu = cpu_before + time.process_time() - cpu_start
            _save(
                file,
                module,
                optimizer,
                {"step": now, "identity": identity, "cpu_seconds": cpu, "loss": mean_loss},
            )
        if on_progress is not None:
            rate = (now - first) / max(time.monotonic() - clock_start, 1e-9)
            on_progress(
                Progress(
                    stage=spec.kind,
                    step=now,
                    steps=spec.steps,
                    loss=mean_loss,
                    images_per_second=rate * spec.batch_size,
                    seconds_left=(spec.steps - now) / rate,
                )
            )
    module.eval()
    return cpu_before + time.process_time() - cpu_start


def _save(file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, scalars: dict[str, Any]) -> None:
    """One file, swapped in at once: a kill leaves the old checkpoint or the new one, never a mixture."""
    tensors = {f"module.{key}": value for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{key}": value for key, value in state.items()})
    # clone: safetensors refuses tensors that share memory
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    partial = file.with_name(f".{file.name}.partial")
    save_file(tensors, partial, metadata={"state": json.dumps(scalars)})
    partial.chmod(0o644)
    partial.replace(file)


def _restore(
    file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, identity: str
) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as stream:
            scalars: dict[str, Any] = json.loads((stream.metadata() or {})["state"])
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"{file}: damaged checkpoint ({error}); delete it to train from the start"
        ) from error
    if scalars.get("identity") != identity:
        raise TrainingError(
            f"{file}: belongs to a run with another recipe, data set, tokenizer or starting point; "
            "give another --out, or delete it"
        )
    module.load_state_dict(
        {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return scalars
