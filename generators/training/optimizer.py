"""Optimizers and learning-rate schedules by name, from torch, bitsandbytes and diffusers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.optimization import get_scheduler

from generators.training.spec import LoopSpec
from promptopt.base.training.errors import TrainingError


def build_optimizer(groups: Sequence[dict[str, Any]], spec: LoopSpec) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, over parameter groups with rates of their own."""
    groups = list(groups)
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=spec.adam_betas, weight_decay=spec.weight_decay, foreach=True)
    if spec.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, weight_decay=spec.weight_decay)
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=spec.adam_betas[0], weight_decay=spec.weight_decay)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise TrainingError(
            f"optimizer {spec.optimizer} needs bitsandbytes, which is not installed ({error}); "
            "pip install bitsandbytes, or use adamw"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        groups, betas=spec.adam_betas, weight_decay=spec.weight_decay
    )
    return optimizer


def lr_schedule(spec: LoopSpec) -> Callable[[int], float]:
    """The share of the learning rate at each step from 0: linear warm-up, then the named schedule."""
    # diffusers' schedules are pure functions of the step, but hang on an optimizer
    carrier = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = get_scheduler(
        spec.lr_schedule if spec.lr_schedule != "constant" else "constant_with_warmup",
        carrier,
        num_warmup_steps=spec.warmup,
        num_training_steps=max(spec.steps, spec.warmup + 1),
    ).lr_lambdas[0]

    def factor(step: int) -> float:
        # the first step of the warm-up moves too
        return (step + 1) / spec.warmup if step < spec.warmup else float(schedule(step))

    return factor
