"""Racing: more and more images of one seed panel for a prompt, until a rival is shown to be better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.inference.paired import compare
from promptopt.run.trials import TrialRow
from promptopt.search.model.slot_model import FloatArray
from promptopt.space import Candidate

_MOST = 64  # images that a prompt gets in a search
_RISK = 0.05  # of losing to a rival that is no better
_CHANCE = 0.02  # less probable leaders get no further images


def stages(images: int, *, racing: bool) -> tuple[int, ...]:
    """Numbers of images at which a prompt is looked at: `images`, then twice as many, up to 64.

    Every prompt gets the first, those that may be best get more. Without racing there is one look.

    Example:
        >>> stages(8, racing=True), stages(64, racing=True), stages(8, racing=False)
        ((8, 16, 32, 64), (64, 128), (8,))
    """
    if not racing:
        return (images,)
    found = [images, 2 * images]
    while 2 * found[-1] <= _MOST:
        found.append(2 * found[-1])
    return tuple(found)


def beaten(
    own: Mapping[str, Sequence[float]], rivals: Mapping[Candidate, Mapping[str, Sequence[float]]]
) -> Candidate | None:
    """The first rival that is better on the same seeds, as sure as anytime-valid bounds make it.

    The chance of losing to any rival that is no better is 5 % at most, over all looks and rivals.

    Args:
        own: per-image gains by term (one term for a single score), prefixes of the panel.
        rivals: candidate -> the same of a rival. A rival wins by being better in every term.
    """
    level = 1 - _RISK / max(1, len(rivals))
    for candidate, rival in rivals.items():
        if all(_better(rival[name], values, level) for name, values in own.items()):
            return candidate
    return None


def _better(rival: Sequence[float], own: Sequence[float], level: float) -> bool:
    both = min(len(rival), len(own))
    low = compare(rival[:both], own[:both], anytime=True, level=level).low
    return low is not None and low > 0


@dataclass(frozen=True)
class Extension:
    """Further images for a prompt that was measured: the row it continues, and how many it then has."""

    row: TrialRow
    images: int

    @property
    def cost(self) -> int:
        """Images to be made."""
        return self.images - self.row.images


def extensions(
    arms: Sequence[TrialRow], leading: FloatArray, looks: Sequence[int], *, allowance: int
) -> list[Extension]:
    """Who gets more images: the likeliest leaders first, each up to its next look, while `allowance` lasts.

    Args:
        arms: the latest row of each prompt.
        leading: probability of each to be the best.
        allowance: images that may be spent.
    """
    found: list[Extension] = []
    for i in np.argsort(-leading, kind="stable"):
        if leading[i] < _CHANCE:
            break  # and so are all after it
        arm = arms[int(i)]
        further = [look for look in looks if look > arm.images]
        if not further or arm.eliminated_by is not None or arm.violations:
            continue
        one = Extension(arm, further[0])
        if one.cost <= allowance:
            found.append(one)
            allowance -= one.cost
    return found
