"""Accuracies and their differences in points, as tables and sentences show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.estimate import Estimate


def points(estimate: Estimate, *, sign: str = "+") -> str:
    """A difference or an accuracy in points, with its interval."""
    if estimate.value is None:
        return "-"
    mark = "" if estimate.status == "ok" else "*"
    text = f"{100 * estimate.value:{sign}.1f}{mark}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({100 * estimate.low:{sign}.1f} to {100 * estimate.high:{sign}.1f})"
