"""Which tables a set's centers allow, and the small rules of how numbers are shown."""

from __future__ import annotations

import pytest

from evaluation.estimate import Estimate
from promptopt.comparison.scopes import ComparisonError, center_scopes
from promptopt.comparison.scores import Score
from promptopt.comparison.tables import shown, stands_apart


def test_each_center_alone_and_all_of_them() -> None:
    found = center_scopes(["b", "a", "b", "c"])
    assert [(s.part, s.title) for s in found.tables] == [
        ("center=a", "single center: a"),
        ("center=b", "single center: b"),
        ("center=c", "single center: c"),
        ("all", "multi center: a + b + c"),
    ]
    assert not found.notes


def test_the_published_split() -> None:
    found = center_scopes(["a", "b", "c"], single="b")
    assert [(s.part, s.title) for s in found.tables] == [
        ("center=b", "single center: b"),
        ("center=a+c", "multi center: a + c"),
        ("all", "both"),
    ]
    assert found.names == {"a": "a+c", "b": "b", "c": "a+c"}
    assert not found.notes


def test_an_unknown_single_center_is_refused() -> None:
    with pytest.raises(ComparisonError, match="centers are a, b"):
        center_scopes(["a", "b"], single="c")


def score(value: float, half: float | None, *, name: str = "x", metric: str = "fd") -> Score:
    low, high = (None, None) if half is None else (value - half, value + half)
    estimate = Estimate(value, low, high, 9, "m", "ok")
    return Score(name, "s", metric, "FD", "lower", True, 9, 9, estimate)


@pytest.mark.parametrize(
    ("value", "half", "metric", "expected"),
    [
        (123.456, 7.1, "fd", ("123", "116 to 131")),
        (0.0123, 0.001, "fd", ("0.0123", "0.0113 to 0.0133")),
        (1.5, None, "is", ("1.50", "")),
        (0.25, 0.05, "memorization", ("25.0 %", "20.0 to 30.0")),
        (0.0, None, "memorization", ("0.0 %", "")),
        (-0.5, 1.0, "alignment", ("-0.50", "-1.50 to 0.50")),
    ],
)
def test_numbers_for_people(value: float, half: float | None, metric: str, expected: tuple[str, str]) -> None:
    assert shown(score(value, half, metric=metric)) == expected


def test_bold_is_for_intervals_that_lie_apart() -> None:
    a, b, c = score(1, 0.5, name="a"), score(3, 0.5, name="b"), score(1.4, 0.5, name="c")
    assert stands_apart(a, [a, b])
    assert not stands_apart(b, [a, b])
    assert not stands_apart(a, [a, b, c])
    assert not stands_apart(score(1, None, name="a"), [a, b])
    assert not stands_apart(a, [a])
