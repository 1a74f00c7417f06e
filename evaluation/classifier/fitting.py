"""What the trainings of classifier networks share: the draw of a batch, and the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.classifier.images import ClassifierError
from evaluation.classifier.learners import OnStep


def balanced(members: Sequence[NDArray[Any]], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a batch, (count,): classes drawn evenly, then rows within each from its `members`."""
    drawn = rng.integers(len(members), size=count)
    return np.array([members[c][rng.integers(len(members[c]))] for c in drawn])


def fit_one_cycle(
    network: nn.Module,
    loss: Callable[[], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    on_step: OnStep,
) -> None:
    """AdamW with a one-cycle learning rate, all layers trained; leaves the network in evaluation mode.

    Args:
        loss: draws a batch and returns its loss, a scalar.
        learning_rate: the highest of the cycle.

    Raises:
        ClassifierError: a loss that is not finite.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    # one step has no cycle to run through
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=max(steps, 2))
    for step in range(steps):
        found = loss()
        if not math.isfinite(float(found.detach())):
            raise ClassifierError(
                f"the loss is not finite at step {step + 1}; lower learning_rate ({learning_rate})"
            )
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        optimizer.step()
        schedule.step()
        on_step()
    network.eval().requires_grad_(False)
