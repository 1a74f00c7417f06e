"""Corrections of p-values for several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

from promptopt.base.errors import ArgumentError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): controls the chance of any false verdict over the whole family.

    Args:
        p_values: in any order; the result keeps it. The adjusted ones are at most 1 and keep the ranking.

    Raises:
        ValueError: a value outside 0 to 1.
    """
    for index, p in enumerate(p_values):
        if not 0 <= p <= 1:
            raise ArgumentError(f"p_values[{index}] is {p}; expected a probability, 0 to 1")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
