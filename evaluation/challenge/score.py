"""What a challenge score is: numbers with the card of the rule behind them, and no `Estimate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from promptopt.base.errors import PromptoptError


class ChallengeError(PromptoptError, ValueError):
    """Input that a challenge's scorer cannot take, or scores that must not stand side by side."""


@dataclass(frozen=True)
class Card:
    """By which rule a number was made.

    Attributes:
        edition: of the challenge, say ``GI 2024``.
        metric: what is computed, in words.
        corrected: False for the script as it is, True with its faults mended.
        deviations: how the number differs from what its usual name promises.
    """

    edition: str
    metric: str
    corrected: bool
    deviations: tuple[str, ...]

    def __str__(self) -> str:
        mode = "faults mended" if self.corrected else "faithful to the organizers' script"
        return "\n".join(
            [f"{self.edition}: {self.metric} ({mode})", *(f"- {line}" for line in self.deviations)]
        )


@dataclass(frozen=True)
class ChallengeScore:
    """Base of the results. No number is ever a NaN: it is None, and `undefined` says why.

    Attributes:
        card: the rule; only scores with equal cards may be compared (`table`).
        undefined: why a number is missing; empty when all are there.
    """

    NUMBERS: ClassVar[tuple[str, ...]] = ()

    card: Card
    undefined: str

    def __post_init__(self) -> None:
        for name in self.NUMBERS:
            value = getattr(self, name)
            if value is None:
                if not self.undefined:
                    raise ChallengeError(f"{name} is missing without a reason in 'undefined'")
            elif not math.isfinite(value):
                raise ChallengeError(f"{name} is {value!r}; what cannot be computed is None, with a reason")

    def to_dict(self) -> dict[str, Any]:
        """The fields and the card, ready for JSON. `Estimate.from_json` refuses it."""
        return {"type": type(self).__name__, **asdict(self)}


def table(scores: Mapping[str, ChallengeScore], *, digits: int = 6) -> str:
    """A markdown table, one row a name, under the one card that all scores share.

    Raises:
        ChallengeError: no score, something that is no challenge score (an `Estimate` of a real FID, say), or
            scores of different cards: another edition, metric or mode.
    """
    if not scores:
        raise ChallengeError("there is no score to show; give one or more")
    for name, score in scores.items():
        if not isinstance(score, ChallengeScore):
            raise ChallengeError(
                f"{name}: a {type(score).__name__} is no challenge score, its numbers mean something else; "
                "show it in a table of its own"
            )
    (first_name, first), *others = scores.items()
    for name, score in others:
        if (type(score), score.card) != (type(first), first.card):
            one, other = (
                f"{c.edition}, {c.metric}, corrected={c.corrected}" for c in (first.card, score.card)
            )
            raise ChallengeError(
                f"{name} is {other}; {first_name} is {one}: they cannot stand in one table, "
                "unless edition, metric, mode and deviations are the same"
            )
    columns = [f.name for f in fields(first) if f.name in first.NUMBERS]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, score in scores.items():
        cells = [getattr(score, column) for column in columns]
        shown = ["undefined" if cell is None else f"{cell:.{digits}f}" for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", str(first.card)])
