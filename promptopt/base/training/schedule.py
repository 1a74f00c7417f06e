"""Learning rates as pure functions of the step, so that a training resumes where it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Schedule = Callable[[int, float], dict[str, Any]]
"""(step from 0, a parameter group's own rate) -> what the group is set to for the step: lr, perhaps betas."""

_LEAST = 1e-7
_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "polynomial": lambda done: (1.0 - _LEAST) * (1.0 - done) + _LEAST,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "cosine_with_restarts": lambda done: 0.5 * (1.0 + math.cos(math.pi * (done % 1.0))),
}


def warmed_up(name: str, *, steps: int, warmup: int) -> Schedule:
    """Linear warm-up, whose first step moves too, then a shape of diffusers' and transformers' schedules.

    Args:
        name: "constant", "linear", "polynomial", "cosine" or "cosine_with_restarts".
        steps: of the whole training; the shape ends one step after the last.
        warmup: steps of warm-up.

    Example:
        >>> rate = warmed_up("cosine", steps=10, warmup=2)
        >>> [round(rate(step, 0.1)["lr"], 3) for step in (0, 1, 2, 6)]
        [0.05, 0.1, 0.1, 0.05]
    """
    shape, length = _SHAPES[name], max(1, steps - warmup)

    def settings(step: int, rate: float) -> dict[str, Any]:
        share = (step + 1) / warmup if step < warmup else shape((step - warmup) / length)
        return {"lr": rate * share}

    return settings


def one_cycle(*, steps: int, rate: float) -> Schedule:
    """torch's ``OneCycleLR`` for AdamW, with its cycle of the first moment; ``rate`` is the highest."""
    import torch

    # torch's schedule hangs on an optimizer: it is run once over one that has nothing to do
    carrier = torch.optim.AdamW([torch.zeros(1)], lr=rate)
    # one step has no cycle to run through
    cycle = torch.optim.lr_scheduler.OneCycleLR(carrier, max_lr=rate, total_steps=max(steps, 2))
    settings = []
    for step in range(steps):
        settings.append({key: carrier.param_groups[0][key] for key in ("lr", "betas")})
        carrier.step()
        if step + 1 < steps:
            cycle.step()
    return lambda step, _: settings[step]
