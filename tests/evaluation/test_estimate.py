"""Estimate: nothing that is not a number gets in, and what was written is read back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.estimate import Estimate

numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_nan_and_infinity_are_refused(bad: float, field: str) -> None:
    fields: dict[str, float] = {"value": 1.0, "low": 0.0, "high": 2.0, field: bad}
    with pytest.raises(ValueError, match=rf"Estimate\.{field}"):
        Estimate(**fields, n=3, method="m", status="ok")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 2.0, 3.0, 5, "m", "ok"), "outside its interval"),
        ((4.0, 2.0, 3.0, 5, "m", "ok"), "outside its interval"),
        ((1.0, 0.0, None, 5, "m", "ok"), "both ends or neither"),
        ((None, None, None, 5, "m", "ok"), "status 'undefined'"),
        ((1.0, None, None, 5, "m", "undefined"), "neither value nor interval"),
        ((1.0, None, None, -1, "m", "ok"), "n is -1"),
        ((1.0, None, None, 1.5, "m", "ok"), r"n is 1\.5"),
        ((1.0, None, None, 1, "", "ok"), "method"),
        ((1.0, None, None, 1, "m", "fine"), "'fine'"),
        ((True, None, None, 1, "m", "ok"), "True"),
        (("1", None, None, 1, "m", "ok"), "'1'"),
    ],
)
def test_contradictions_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Estimate(*arguments)


@given(numbers, st.integers(0, 10**9), st.sampled_from(["ok", "unreliable"]))
def test_json_round_trip(value: float, n: int, status: str) -> None:
    for estimate in (
        Estimate(value, None, None, n, "m, with “quotes”", status),  # type: ignore[arg-type]
        Estimate(value, value, value, n, "m", status),  # type: ignore[arg-type]
        Estimate.undefined(n, "m"),
    ):
        assert Estimate.from_json(estimate.to_json()) == estimate
        assert Estimate.from_json(estimate.to_dict()) == estimate


@pytest.mark.parametrize("text", ['{"value": 1.0}', "[1]", '{"value": NaN}', "{"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"keys|Expecting"):
        Estimate.from_json(text)


def test_nan_in_json_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Estimate\.value is nan"):
        Estimate.from_json(Estimate(1.0, None, None, 1, "m", "ok").to_json().replace("1.0", "NaN"))


def test_mean_has_students_interval() -> None:
    half = np.random.default_rng(0).normal(3, 2, 6)
    for values in (
        np.concatenate([half, 6 - half]),
        np.array([0.0, 1.0, 7.0]),
    ):  # no skew, and too few for it
        estimate = Estimate.of_mean(values, level=0.9)
        low, high = stats.t.interval(0.9, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
        assert estimate.value == pytest.approx(values.mean())
        assert (estimate.low, estimate.high) == pytest.approx((low, high))
        assert (estimate.n, estimate.status) == (len(values), "ok")


def test_the_end_on_the_side_of_skew_is_halls() -> None:
    """The end solves Hall's equation (1992), with the t quantile in place of the normal one."""
    values = np.random.default_rng(1).exponential(size=20)
    estimate = Estimate.of_mean(values)
    low, _ = stats.t.interval(0.95, 19, loc=values.mean(), scale=stats.sem(values))
    assert estimate.low == pytest.approx(low)
    skewness, quantile = stats.skew(values), stats.t.ppf(0.025, 19) / np.sqrt(20)

    def transformed(mean: float) -> float:
        w = (values.mean() - mean) / values.std(ddof=1)
        return float(w + skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / 120)

    assert estimate.high is not None
    assert transformed(estimate.high) == pytest.approx(quantile)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(0.01, 100), st.floats(-10, 10))
def test_mean_scales_shifts_and_mirrors(values: list[float], scale: float, shift: float) -> None:
    array = np.array(values)
    size = scale * float(np.abs(array).max()) + abs(shift)
    one, moved = Estimate.of_mean(array), Estimate.of_mean(scale * array + shift)
    mirrored = Estimate.of_mean(-array)
    assert one.low is not None
    assert one.high is not None
    assert (mirrored.low, mirrored.high) == pytest.approx((-one.high, -one.low), rel=1e-6, abs=1e-6 * size)
    if np.ptp(array) > 1e-3 * (np.abs(array).max() + abs(shift) / scale):  # else the shift rounds it away
        assert (moved.low, moved.high) == pytest.approx(
            (scale * one.low + shift, scale * one.high + shift), rel=1e-5, abs=1e-5 * size
        )


@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_interval_of_a_mean_covers(kind: str) -> None:
    rng = np.random.default_rng(2)
    truth = 0.0 if kind == "normal" else 1.0
    found = [Estimate.of_mean(getattr(rng, kind)(size=16)) for _ in range(1500)]
    hits = sum(e.low is not None and e.high is not None and e.low <= truth <= e.high for e in found)
    assert stats.binomtest(hits, 1500, 0.95).pvalue > 1e-4  # plain t on exponential values: 91.5 %


def test_mean_of_few_values() -> None:
    assert Estimate.of_mean([]).status == "undefined"
    one = Estimate.of_mean([2.5])
    assert (one.value, one.low, one.high, one.status) == (2.5, None, None, "unreliable")
    same = Estimate.of_mean([2.0, 2.0, 2.0])
    assert (same.low, same.value, same.high) == (2.0, 2.0, 2.0)


def test_mean_names_the_bad_value() -> None:
    with pytest.raises(ValueError, match=r"values\[1\] is nan \(1 of 3"):
        Estimate.of_mean([1.0, math.nan, 2.0])
    with pytest.raises(ValueError, match="one dimension"):
        Estimate.of_mean([[1.0]])
    with pytest.raises(ValueError, match="level"):
        Estimate.of_mean([1.0, 2.0], level=95)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_proportion_has_wilsons_interval(case: tuple[int, int]) -> None:
    successes, n = case
    estimate = Estimate.of_proportion(successes, n)
    reference = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert estimate.value == successes / n
    assert (estimate.status == "ok") == (n >= 10)


def test_proportion_of_nothing_and_of_too_much() -> None:
    assert Estimate.of_proportion(0, 0).status == "undefined"
    with pytest.raises(ValueError, match="5 successes of 4"):
        Estimate.of_proportion(5, 4)
