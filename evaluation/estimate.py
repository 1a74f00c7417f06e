"""A measured number with what it rests on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from promptopt.base.errors import ArgumentError

Status = Literal["ok", "unreliable", "undefined"]


@dataclass(frozen=True)
class Estimate:
    """A value, its interval, the number of images behind it, the method and how far it may be trusted.

    Attributes:
        value: the measured number; None exactly when `status` is ``undefined``.
        low, high: ends of the interval, both or neither, with ``low <= value <= high``. Neither when the
            method knows no interval (two sets given as statistics) or the sample is too small for one.
        n: number of images (pairs, for a paired comparison) the value rests on; of two sets, the smaller one.
        method: what was computed, in words, with its settings.
        status: ``ok``: usable as it stands. ``unreliable``: computed as defined, but from fewer images than
            the method's documentation asks for, or without the spread that its interval needs; to be shown
            with its `n`, not to be optimized. ``undefined``: the sample admits no value (empty, or one image
            where two are needed); neither value nor interval.

    Raises:
        ValueError: a NaN or an infinity, an interval without the value inside, a value where none may be or
            none where one must be, a negative `n`, an empty `method` or an unknown `status`.

    Example:
        >>> Estimate.of_mean([1.0, 2.0, 3.0, 4.0]).value
        2.5
        >>> Estimate.undefined(1, "FID").value is None
        True
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    status: Status

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is None:
                continue
            if isinstance(number, bool | np.bool_) or not isinstance(number, int | float | np.number):
                raise ArgumentError(f"Estimate.{name} is {number!r}; expected a number or None")
            if not math.isfinite(number):
                raise ArgumentError(
                    f"Estimate.{name} is {number!r} ({self.method}); a value that cannot be computed is "
                    "Estimate.undefined(n, method), never a NaN or an infinity"
                )
            object.__setattr__(self, name, float(number))  # plain floats, whatever NumPy type came in
        if isinstance(self.n, bool) or not isinstance(self.n, int | np.integer) or self.n < 0:
            raise ArgumentError(f"Estimate.n is {self.n!r}; expected a count, 0 or more")
        object.__setattr__(self, "n", int(self.n))
        if not isinstance(self.method, str) or not self.method:
            raise ArgumentError(f"Estimate.method is {self.method!r}; say in words what was computed")
        if self.status not in get_args(Status):
            raise ArgumentError(
                f"Estimate.status is {self.status!r}; expected one of {', '.join(get_args(Status))}"
            )
        if self.status == "undefined":
            if (self.value, self.low, self.high) != (None, None, None):
                raise ArgumentError("an undefined Estimate has neither value nor interval")
            return
        if self.value is None:
            raise ArgumentError(f"an Estimate without a value has status 'undefined', not {self.status!r}")
        if (self.low is None) != (self.high is None):
            raise ArgumentError(
                f"Estimate.low is {self.low} and high is {self.high}; give both ends or neither"
            )
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ArgumentError(
                f"Estimate.value {self.value} lies outside its interval [{self.low}, {self.high}]"
            )

    @classmethod
    def undefined(cls, n: int, method: str) -> Estimate:
        """No value: `n` images do not admit one."""
        return cls(None, None, None, n, method, "undefined")

    @classmethod
    def of_mean(cls, values: ArrayLike, *, level: float = 0.95, method: str = "mean, t interval") -> Estimate:
        """Mean of independent values with Student's t interval, from 8 values on widened to the side of skew.

        Few values of a skewed distribution miss its long tail: the t interval of 16 exponential values covers
        91.5 %. Hall's transformation (1992, `widened_halves`) gives it 95 %, and 96 % to normal ones. Of a
        tail that the values have not shown at all no interval knows.

        Args:
            values: shape (n,). No value gives ``undefined``; a single one ``unreliable``, without interval.
            level: coverage of the interval, in (0, 1).
            method: what the values are.

        Raises:
            ValueError: not one-dimensional, a NaN or infinity (its position is named), or a wrong `level`.
        """
        check_level(level)
        array = check_vector(values, "values")
        n = len(array)
        if n == 0:
            return cls.undefined(0, method)
        mean = float(array.mean())
        if n == 1:
            return cls(mean, None, None, 1, method, "unreliable")
        from scipy.special import stdtrit

        spread = float(array.std(ddof=1))
        half = float(stdtrit(n - 1, (1 + level) / 2)) / math.sqrt(n)
        below, above = widened_halves(array, half) if n >= SKEWNESS_FROM else (half, half)
        return cls(mean, mean - below * spread, mean + above * spread, n, method, "ok")

    @classmethod
    def of_proportion(
        cls, successes: int, n: int, *, level: float = 0.95, method: str = "proportion, Wilson interval"
    ) -> Estimate:
        """Proportion of successes with Wilson's score interval (1927); ``unreliable`` below 10 trials.

        Raises:
            ValueError: `successes` outside 0 to `n`, or a wrong `level`.
        """
        check_level(level)
        if not 0 <= successes <= n:
            raise ArgumentError(f"{successes} successes of {n} trials; expected a count from 0 to {n}")
        if n == 0:
            return cls.undefined(0, method)
        from scipy.special import ndtri

        share = successes / n
        low, high = wilson(share, n, float(ndtri((1 + level) / 2)))
        return cls(share, low, high, n, method, "ok" if n >= 10 else "unreliable")

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready to stand inside a larger JSON document."""
        return asdict(self)

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal Estimate back."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, document: str | Mapping[str, Any]) -> Estimate:
        """Read what `to_json` (text) or `to_dict` (mapping) wrote.

        Raises:
            ValueError: not JSON, a key missing or too many, or values that no Estimate may have.
        """
        fields = json.loads(document) if isinstance(document, str) else document
        expected = set(cls.__dataclass_fields__)
        if not isinstance(fields, Mapping) or set(fields) != expected:
            got = sorted(fields) if isinstance(fields, Mapping) else type(fields).__name__
            raise ArgumentError(f"an Estimate has the keys {sorted(expected)}; got {got}")
        return cls(**fields)


SKEWNESS_FROM = 8
"""Fewest values whose skewness an interval takes for anything but chance."""


def widened_halves(
    values: np.ndarray[Any, np.dtype[np.float64]], half: float, *, factor: float = 1.0
) -> tuple[float, float]:
    """How far an interval for the mean reaches down and up, in SDs, when it would reach `half` both ways.

    On the side of the skew, where a sample falls short of the mean more often than not, the end is that of
    Hall's cubic transformation of the t statistic (1992), with `factor` times the sample's skewness; `half`
    where that is less, and on the other side.
    """
    n = len(values)
    deviations = values - values.mean()
    second = float(np.mean(deviations**2))
    if second <= (1e-12 * float(np.abs(values).max(initial=0.0))) ** 2:
        return half, half  # all equal but for rounding
    skewness = factor * float(np.mean(deviations**3)) / second**1.5
    size = abs(skewness)
    if size < 1e-6:
        return half, half
    wide = max(3 / size * (1 - float(np.cbrt(1 - size * half - size**2 / (6 * n)))), half)
    return (half, wide) if skewness > 0 else (wide, half)


def check_level(level: float) -> None:
    """Refuse a coverage outside (0, 1)."""
    if not 0 < level < 1:
        raise ArgumentError(f"level is {level!r}; expected a coverage between 0 and 1, say 0.95")


def check_vector(values: ArrayLike, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The values as a finite float64 vector, or a ValueError that names the first bad one."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ArgumentError(f"{name} has shape {array.shape}; expected one dimension, (n,)")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise ArgumentError(
            f"{name}[{bad[0]}] is {array[bad[0]]} ({len(bad)} of {len(array)} are not finite); "
            "leave failed images out before averaging"
        )
    return array


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Ends of Wilson's score interval for a share of `n` trials, which need not be a whole number."""
    z2 = quantile**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # at 0 and n successes an end equals the share; rounding must not put it on the wrong side
    return min(max(center - half, 0.0), share), max(min(center + half, 1.0), share)
