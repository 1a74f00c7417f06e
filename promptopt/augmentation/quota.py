"""How many images each prompt of a class owes, and which attempts make up the next round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptopt.synthesis.plan import shares

if TYPE_CHECKING:
    from promptopt.augmentation.journal import Progress


@dataclass(frozen=True)
class Quota:
    """The shares of a class's prompts.

    A prompt has so many attempts for each image of its share. One that has used them up leaves what it still
    owes to the others, by their weights: that a rare prompt is refused a few times in a row costs no image.

    Args:
        weights: one a prompt, 0 or more.
        count: images of the class.
        attempts: images made for each one wanted, at most; 1 or more.

    Example:
        >>> from promptopt.augmentation.journal import Progress
        >>> at = [Progress(tried=8, kept=8, tried_before=8, kept_before=8), Progress(4, 1, 4, 1)]
        >>> Quota([0.8, 0.2], count=10, attempts=2).due(at)  # the second used up 4 of 4 and owes one
        [(0, 9)]
    """

    weights: Sequence[float]
    count: int
    attempts: float

    def due(self, at: Sequence[Progress]) -> list[tuple[int, int]]:
        """What is left of the round: (prompt, number of its attempt), prompts in their order.

        A round has an attempt for every image that is missing when it begins. So which image is looked at
        after which depends on what was refused alone, not on who makes them, how many at a time, or where a
        kill came between.
        """
        base = shares(self.weights, self.count)
        limits = [math.ceil(self.attempts * share) for share in base]
        spent = [own.tried_before >= limit for own, limit in zip(at, limits, strict=True)]
        kept = sum(own.kept_before for own, over in zip(at, spent, strict=True) if over)
        left = [0.0 if over else weight for over, weight in zip(spent, self.weights, strict=True)]
        wanted = shares(left, self.count - kept) if any(left) else [0] * len(base)
        return [
            (prompt, own.tried + 1 + number)
            for prompt, own in enumerate(at)
            if not spent[prompt]
            for number in range(
                min(wanted[prompt] - own.kept_before, limits[prompt] - own.tried_before)
                - (own.tried - own.tried_before)
            )
        ]
