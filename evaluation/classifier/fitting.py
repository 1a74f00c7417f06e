"""What the trainings of classifier networks share: the draw of a batch, and the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.classifier.images import ClassifierError
from evaluation.classifier.learners import OnStep
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.loop import Loop, Method
from promptopt.base.training.place import OneProcess
from promptopt.base.training.schedule import one_cycle


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
        ClassifierError: a loss or weight that is not finite, or far too large.
    """
    loop = Loop(
        stage="classifier",
        modules={"network": network},
        loss=lambda step, rows: loss(),
        method=Method(
            steps=steps,
            batch_size=1,
            optimizer=lambda named: torch.optim.AdamW(
                named.values(), lr=learning_rate, weight_decay=weight_decay
            ),
            schedule=one_cycle(steps=steps, rate=learning_rate),
            if_diverged=f"lower learning_rate ({learning_rate})",
        ),
        place=OneProcess(next(network.parameters()).device),
        after_step=lambda step: on_step(),
    )
    try:
        loop.run()
    except TrainingError as error:
        raise ClassifierError(str(error)) from error
    network.requires_grad_(False)
