"""Effect of each slot option: the mean search score of the prompts that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.estimate import Estimate
from promptopt.search import TrialRow, latest
from promptopt.template import PromptSpace


@dataclass(frozen=True)
class OptionEffect:
    """`mean` over the distinct prompts with the option; undefined when none was tried."""

    slot: str
    option: str
    trials: int
    mean: Estimate


def option_effects(space: PromptSpace, trials: Sequence[TrialRow]) -> list[OptionEffect]:
    """One entry per slot and option, in template order; slots with a single option are left out."""
    rows = latest(trials)
    found = []
    for slot in space.slots:
        if len(slot.options) < 2:
            continue
        for option in slot.options:
            values = np.array(
                [row.value for row in rows if row.choice[slot.name] == option], dtype=np.float64
            )
            mean = Estimate.of_mean(values) if len(values) else Estimate.undefined(0, "mean over trials")
            found.append(OptionEffect(slot.name, option, len(values), mean))
    return found
