"""What may be claimed of a set."""

import pytest

from evaluation.estimate import Estimate
from promptopt.study.sets.confirm import Compared, corrected, pairs


def compared(metric: str, p: float, value: float = -0.1, *, enough: bool = True) -> Compared:
    estimate = Estimate(value, value - 0.05, value + 0.05, 96, "planted", "ok")
    return Compared(
        label="polyp",
        first="set",
        second="baseline",
        metric=metric,  # type: ignore[arg-type]
        estimate=estimate,
        p_value=p,
        enough=enough,
    )


def test_each_measure_is_corrected_by_itself() -> None:
    rows = [compared("closeness", p) for p in (0.001, 0.02, 0.03)] + [compared("accuracy", 0.02)]
    adjusted = [one.p_adjusted for one in corrected(rows)]
    assert adjusted == pytest.approx([0.003, 0.04, 0.04, 0.02])  # Holm by hand
    assert [one.p_value for one in corrected(rows)] == [one.p_value for one in rows]


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        ("closeness", -0.1, "better"),
        ("closeness", 0.1, "worse"),
        ("accuracy", 0.1, "better"),
        ("accuracy", -0.1, "worse"),
    ],
)
def test_less_distance_and_more_accuracy_are_better(metric: str, value: float, verdict: str) -> None:
    assert corrected([compared(metric, 0.01, value)])[0].verdict == verdict
    assert corrected([compared(metric, 0.2, value)])[0].verdict == "unclear"
    assert corrected([compared(metric, 0.01, value, enough=False)])[0].verdict == "unclear"


def test_the_set_is_compared_with_every_other_method_and_the_template_with_the_baseline() -> None:
    assert pairs(["set", "baseline", "random", "learned"]) == [
        ("set", "baseline"),
        ("set", "random"),
        ("set", "learned"),
        ("learned", "baseline"),
    ]
