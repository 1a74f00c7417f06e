"""How the loop trains a stage of a recipe: optimizers by name, from torch and bitsandbytes, and the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from generators.training.spec import LoopSpec
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.loop import Method
from promptopt.base.training.order import seeded
from promptopt.base.training.schedule import warmed_up


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


def method(spec: LoopSpec, *, stage: str, rates: Mapping[str, float]) -> Method:
    """How a stage is trained by its section of the recipe; ``rates`` are learning rates by module name."""

    def optimizer(named: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        own = {module: [p for n, p in named.items() if n.startswith(f"{module}.")] for module in rates}
        groups = [{"params": own[module], "lr": rate, "name": module} for module, rate in rates.items()]
        return build_optimizer(groups, spec)

    def smaller(images: int) -> str:
        if images > 1:
            twice = 2 * spec.gradient_accumulation
            return f"set gradient_accumulation to {twice}: the same training in smaller passes"
        return "set gradient_checkpointing to true, precision to bf16, or take a smaller size"

    return Method(
        steps=spec.steps,
        batch_size=spec.batch_size,
        optimizer=optimizer,
        schedule=warmed_up(spec.lr_schedule, steps=max(spec.steps, spec.warmup + 1), warmup=spec.warmup),
        passes=spec.gradient_accumulation,
        grad_clip=spec.grad_clip,
        ema_decay=spec.ema_decay,
        checkpoint_every=spec.checkpoint_every,
        step_seed=lambda step: seeded(spec.seed, stage, step).initial_seed(),
        if_diverged=f"lower lr ({spec.lr:g}) or use precision float32, and give another output folder",
        if_out_of_memory=smaller,
    )
