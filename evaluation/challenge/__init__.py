"""The challenge's own scorers, faithful to the letter, faults included; ``corrected=True`` mends them.

``gi2024`` (two folders, Keras's Inception) and ``gi2025`` (prompt pairs, BiomedCLIP). Their results are
types of their own, never an `Estimate`: neither edition's "FID" is a FID, and `table` sets side by side only
what was computed by one and the same rule.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.challenge import gi2024, gi2025
    from evaluation.challenge.score import Card, ChallengeError, ChallengeScore, table

_HOME = dict.fromkeys(("Card", "ChallengeError", "ChallengeScore", "table"), "evaluation.challenge.score")

__all__ = ["Card", "ChallengeError", "ChallengeScore", "gi2024", "gi2025", "table"]


def __getattr__(name: str) -> Any:
    if name in ("gi2024", "gi2025"):
        return import_module(f"evaluation.challenge.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
