"""How the shared loop trains CLIP and the judge: AdamW, warm-up and cosine, and what a run follows from."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.training.figures import METRICS_FILE
from evaluation.training.recipe import ClipSpec, JudgeSpec
from promptopt.base.files import file_digest
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import claim, damage, read_json
from promptopt.base.training.loop import Loop, Method
from promptopt.base.training.place import OneProcess
from promptopt.base.training.progress import JsonLog, OnProgress
from promptopt.base.training.schedule import warmed_up
from studies.dataset import Dataset

CHECKPOINTS = "checkpoints"


def rng_for(*key: int) -> np.random.Generator:
    """A random stream of its own for a key such as (seed, purpose, step)."""
    return np.random.default_rng(np.random.SeedSequence(list(key)))


def method(spec: ClipSpec | JudgeSpec) -> Method:
    """AdamW with a cosine; gains, biases and scalars get no weight decay, as in open_clip."""

    def optimizer(named: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        groups = [
            {"params": [p for p in named.values() if p.ndim >= 2], "weight_decay": spec.weight_decay},
            {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=spec.betas, eps=1e-6)

    return Method(
        steps=spec.steps,
        batch_size=spec.batch_size,
        optimizer=optimizer,
        schedule=warmed_up("cosine", steps=spec.steps, warmup=min(spec.warmup_steps, spec.steps // 2)),
        grad_clip=spec.gradient_clip,
        checkpoint_every=spec.save_every,
        step_seed=lambda step: int(rng_for(spec.seed, 99, step).integers(2**31)),
        if_diverged=f"lower learning_rate ({spec.learning_rate:g}) and give another output folder",
    )


def identity_of(spec: ClipSpec | JudgeSpec, data: Dataset, **start: str) -> dict[str, Any]:
    """All that the weights follow from; ``start`` names where the training starts."""
    train = data.where(pool="reference")
    names = [record.file_name for record in data]
    return {
        # the license and the pace of saving change no weight
        "recipe": spec.model_dump(mode="json", exclude={"license", "save_every"}),
        "data": data.fingerprint,
        "records": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
        "pictures": hashlib.sha256("".join(map(file_digest, train.paths())).encode()).hexdigest(),
        **start,
    }


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """Sha256 of an identity, as ``metrics.json`` holds it."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def is_finished(out: Path, identity: Mapping[str, Any]) -> bool:
    """Whether this run has been finished in the folder; raises TrainingError if another one has."""
    if not (out / METRICS_FILE).exists():
        return False
    metrics = read_json(out / METRICS_FILE)
    if metrics.get("identity") != fingerprint_of(identity):
        raise TrainingError(f"{out}: holds the result of another run; give another folder")
    if (fault := damage(out, metrics.get("files", {}))) is not None:
        raise TrainingError(f"is damaged: {fault}", file=out, remedy=f"Remove {out} and train again.")
    return True


def train(
    network: nn.Module,
    spec: ClipSpec | JudgeSpec,
    *,
    out: Path,
    identity: Mapping[str, Any],
    loss_at: Callable[[int, slice], Tensor],
    after_update: Callable[[], None] | None = None,
    on_progress: OnProgress | None = None,
) -> float:
    """Train to ``spec.steps``, from the checkpoint in ``out`` if there is one; returns CPU seconds used."""
    folder = out / CHECKPOINTS
    claim(folder, identity)
    return (
        Loop(
            stage=spec.kind,
            modules={spec.kind: network},
            loss=loss_at,
            method=method(spec),
            checkpoints=folder,
            log=JsonLog(folder / "log.jsonl"),
            place=OneProcess(next(network.parameters()).device),
            after_update=after_update,
            on_progress=on_progress,
        )
        .run()
        .cpu_seconds
    )


def clear(out: Path) -> None:
    """Remove the checkpoints of a finished run."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
