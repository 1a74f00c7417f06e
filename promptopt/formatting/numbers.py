"""Numbers as people read them: estimates with their intervals, p-values, counts, durations, sizes."""

from __future__ import annotations

import math
from typing import Protocol


class AnyEstimate(Protocol):
    """An `evaluation.estimate.Estimate`, or an entry of prompts.json that holds one."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def n(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def status(self) -> str: ...


def value_and_interval(
    estimate: AnyEstimate | None, style: str = "", *, scale: float = 1.0, unit: str = "", mark: str = "*"
) -> tuple[str, str]:
    """The value, and `low to high`; empty where there is none.

    Args:
        style: a format specification such as ``+.2f``; by default the decimals that three significant digits
            of the largest number leave, four at most.
        scale: what the numbers are multiplied by, 100 for percent.
        unit: stands after the value.
        mark: stands after an unreliable value.
    """
    if estimate is None or estimate.value is None:
        return "", ""
    numbers = [scale * x for x in (estimate.value, estimate.low, estimate.high) if x is not None]
    style = style or three_digits(*numbers)
    shown = [number(x, style) for x in numbers]
    text = shown[0] + (mark if estimate.status == "unreliable" else "") + unit
    return text, f"{shown[1]} to {shown[2]}" if len(shown) == 3 else ""


def in_cell(
    estimate: AnyEstimate | None,
    style: str = "",
    *,
    scale: float = 1.0,
    unit: str = "",
    mark: str = "*",
    missing: str = "-",
) -> str:
    """For a cell of a table: `0.81* (0.72 to 0.88)`, or `missing`; see `value_and_interval`.

    >>> from evaluation.estimate import Estimate
    >>> in_cell(Estimate(0.81, 0.72, 0.88, 40, "mean", "unreliable"), "+.2f")
    '+0.81* (+0.72 to +0.88)'
    """
    value, interval = value_and_interval(estimate, style, scale=scale, unit=unit, mark=mark)
    return f"{value} ({interval})" if interval else value or missing


def points(estimate: AnyEstimate | None, *, sign: str = "+") -> str:
    """A difference or an accuracy in points, with its interval."""
    return in_cell(estimate, f"{sign}.1f", scale=100)


def estimate_parts(
    estimate: AnyEstimate | None, style: str = "", *, scale: float = 1, unit: str = ""
) -> list[str]:
    """The parts of `format_estimate` between which a line may break."""
    if estimate is None:
        return ["—"]
    if estimate.value is None:
        return [f"undefined (n = {estimate.n})"]
    low, high = estimate.low, estimate.high
    if not style and low is not None and high is not None:
        style = f".{_places(low, high)}f"
    value, interval = value_and_interval(
        estimate, style or _plain(estimate.value), scale=scale, unit=unit, mark=""
    )
    parts = [value, f"({interval})"] if interval else [value]
    return [*parts, "unreliable"] if estimate.status == "unreliable" else parts


def format_estimate(
    estimate: AnyEstimate | None, style: str = "", *, scale: float = 1, unit: str = ""
) -> str:
    """In a sentence: `0.81 (0.72 to 0.88)`, in equal decimals, with a word when unreliable or undefined.

    >>> from evaluation.estimate import Estimate
    >>> format_estimate(Estimate(0.8123, 0.72, 0.88, 40, "mean", "ok"))
    '0.81 (0.72 to 0.88)'
    """
    return " ".join(estimate_parts(estimate, style, scale=scale, unit=unit))


def _places(low: float, high: float) -> int:
    """Two decimals; more in a narrow interval, and a third where an end would be mistaken for 0."""
    width = math.ceil(-math.log10(2 * (high - low))) + 1 if high > low else 2
    ends = 3 if any(end and abs(end) < 0.005 for end in (low, high)) else 2
    return max(ends, min(width, 6))


def three_digits(*numbers: float) -> str:
    """The style with the decimals that three significant digits of the largest number leave, four at most."""
    largest = max(map(abs, numbers))
    return f".{min(4, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 1}f"


def number(value: float, style: str = "") -> str:
    """In this style, without a minus before 0; by default two decimals, three digits where that says nothing.

    >>> number(-0.0004, ".2f"), number(0.0004)
    ('0.00', '0.0004')
    """
    style = style or _plain(value)
    return format(value, style.replace(".", "z.", 1) if style.endswith("f") else style)


def _plain(value: float) -> str:
    return ".2f" if value == 0 or 0.01 <= abs(value) < 1000 else ".3g"


def signed(value: float | None) -> str:
    """With its sign, also where it is above 0."""
    return "undefined" if value is None else f"{value:+.2f}"


def percent(share: float) -> str:
    """A share in [0, 1] as whole percent."""
    return f"{100 * share:.0f} %"


def p_value(p: float | None, *, missing: str = "-", name: str = "") -> str:
    """Two digits, or that it is below 0.001; `name` with an equals sign before it in a sentence.

    >>> p_value(0.0213), p_value(0.0002), p_value(0.0213, name="p")
    ('0.021', '< 0.001', 'p = 0.021')
    """
    if p is None:
        return missing
    text = "< 0.001" if p < 0.001 else f"{p:.2g}"
    return f"{name} {text}" if name and p < 0.001 else f"{name} = {text}" if name else text


def count(n: int, what: str) -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in the units that a person would use."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {second:02d} s" if minutes else f"{second} s"


def file_size(size: float) -> str:
    """Bytes as kB, MB or GB."""
    if size < 1e5:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
