"""Forest plots as tables: every line has its numbers in text, and a bar of where its interval lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptopt.formatting.numbers import AnyEstimate, number, value_and_interval
from promptopt.run.prompt_sets import ClassEntry, SetList
from promptopt.run.set_names import LESS, SHORT
from promptopt.study.sets.words import nearer

_ORDER = ("real", "baseline", "random", "single", "learned", "captions", "set")


@dataclass(frozen=True)
class Line:
    """One line: what it is, its numbers, its verdict, and places on the axis in percent of its width.

    Attributes:
        dot, low, width: of the value and its interval; None where there is no value.
    """

    label: str
    value: str
    interval: str
    verdict: str = ""
    dot: float | None = None
    low: float = 0.0
    width: float = 0.0
    marked: bool = False


@dataclass(frozen=True)
class Forest:
    """Lines on one axis; `zero` is the place of "no difference", None where the axis shows levels."""

    lines: tuple[Line, ...]
    left: str
    right: str
    zero: float | None


@dataclass(frozen=True)
class Row:
    """What a line is made of."""

    label: str
    estimate: AnyEstimate
    verdict: str = ""
    marked: bool = False


def forest(rows: Sequence[Row], style: str, *, scale: float = 1.0, zero: bool = True) -> Forest:
    """Lines of estimates on a common axis that holds all intervals, and 0 if `zero`.

    >>> from evaluation.estimate import Estimate
    >>> drawn = forest([Row("a", Estimate(0.5, 0.0, 1.0, 8, "mean", "ok"))], ".1f")
    >>> drawn.lines[0].dot, drawn.lines[0].width, drawn.zero
    (50.0, 91.0, 4.5)
    """
    ends = [
        scale * x for r in rows for x in (r.estimate.value, r.estimate.low, r.estimate.high) if x is not None
    ]
    ends += [0.0] if zero else []
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    spare = 0.05 * (high - low) or 0.5
    low, high = low - spare, high + spare

    def place(value: float) -> float:
        return round(100 * (scale * value - low) / (high - low), 1)

    lines = []
    for row in rows:
        found = row.estimate
        value, interval = value_and_interval(found, style, scale=scale, mark="")
        if found.value is None:
            lines.append(Line(row.label, "undefined", "", row.verdict, marked=row.marked))
            continue
        reach = (
            (found.low, found.high)
            if found.low is not None and found.high is not None
            else (found.value,) * 2
        )
        start, end = (place(x) for x in reach)
        lines.append(
            Line(
                row.label,
                value,
                interval,
                row.verdict,
                place(found.value),
                start,
                round(end - start, 1),
                row.marked,
            )
        )
    return Forest(
        tuple(lines),
        left=number(low + spare, style.lstrip("+")),
        right=number(high - spare, style.lstrip("+")),
        zero=place(0.0) if zero else None,
    )


def accuracy_forest(sets: SetList, *, real: str = "real") -> Forest | None:
    """By how much a classifier is better with the set's images than with each other kind; None without one.

    Each line names the other's balanced accuracy; the intervals are those of the differences.
    """
    names = {**SHORT, "real": f"{real} alone"}
    rows = [
        Row(
            f"{names.get(one.second, one.second)}, {_percent(sets, one.second)}",
            one.difference,
            one.verdict,
        )
        for one in sorted(sets.comparisons, key=lambda one: _place(one.second))
        if one.metric == "accuracy" and one.first == "set"
    ]
    return forest(rows, "+.1f", scale=100) if rows else None


def _percent(sets: SetList, name: str) -> str:
    return value_and_interval(sets.accuracy.get(name), ".1f", scale=100, mark="")[0]


def nearer_forest(entry: ClassEntry, metric: str = "closeness") -> Forest | None:
    """By how much the set is nearer to unseen real images than each other method; None where not measured."""
    rows = [
        Row(f"than {SHORT.get(one.second, one.second)}", nearer(one), one.verdict)
        for one in sorted(entry.comparisons, key=lambda one: _place(one.second))
        if one.metric == metric and one.first == "set"
    ]
    return forest(rows, "+.0f", scale=LESS) if rows else None


def _place(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER) - 1
