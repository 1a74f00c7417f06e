"""Numbers as people read them, and tables that hold every part of an Estimate."""

from __future__ import annotations

import csv
import doctest
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.estimate import Estimate
from promptopt.formatting import numbers, tables
from promptopt.formatting.charts import BLUE, Panel, Series, forest_plot
from promptopt.formatting.numbers import (
    count,
    file_size,
    format_estimate,
    in_cell,
    p_value,
    points,
    value_and_interval,
)
from promptopt.formatting.tables import PARTS, csv_table

OK = Estimate(0.8123, 0.72, 0.88, 40, "mean", "ok")
FEW = Estimate(0.5, 0.1, 0.9, 3, "mean", "unreliable")
BARE = Estimate(-0.00004, None, None, 1, "mean", "unreliable")
NONE = Estimate.undefined(2, "no spread")


@pytest.mark.parametrize("module", [numbers, tables])
def test_the_examples_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimate", "sentence", "cell"),
    [
        (OK, "0.81 (0.72 to 0.88)", "0.812 (0.720 to 0.880)"),
        (FEW, "0.50 (0.10 to 0.90) unreliable", "0.500* (0.100 to 0.900)"),
        (BARE, "-4e-05 unreliable", "0.0000*"),
        (NONE, "undefined (n = 2)", "-"),
        (None, "—", "-"),
    ],
)
def test_an_estimate_says_what_it_is_worth(estimate: Estimate | None, sentence: str, cell: str) -> None:
    assert format_estimate(estimate) == sentence
    assert in_cell(estimate) == cell


def test_styles_scales_and_units() -> None:
    assert format_estimate(OK, ".0f", scale=100, unit=" %") == "81 % (72 to 88)"
    assert points(FEW) == "+50.0* (+10.0 to +90.0)"
    assert value_and_interval(NONE) == ("", "")
    assert [p_value(p) for p in (None, 0.0004, 0.012, 0.5, 1.0)] == ["-", "< 0.001", "0.012", "0.5", "1"]
    assert p_value(0.0004, name="p") == "p < 0.001"
    assert [count(n, "prompt") for n in (0, 1, 2000)] == ["0 prompts", "1 prompt", "2,000 prompts"]
    assert [file_size(x) for x in (500, 2.5e6, 3e9)] == ["0 kB", "2.5 MB", "3.0 GB"]


@given(
    st.lists(st.tuples(st.text(), st.sampled_from([OK, FEW, BARE, NONE, None])), max_size=5),
    st.booleans(),
)
def test_a_table_has_every_part_and_no_formula(rows: list[tuple[str, Estimate | None]], exact: bool) -> None:
    text = csv_table(["prompt"], [[t] for t, _ in rows], [{"fd": e} for _, e in rows], exact=exact)
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(lines) == len(rows)
    for line, (_, estimate) in zip(lines, rows, strict=True):
        assert not line["prompt"].lstrip().startswith(("=", "+", "-", "@"))
        for part in PARTS:
            value = None if estimate is None else getattr(estimate, part)
            shown = f"{value:.6g}" if isinstance(value, float) and not exact else str(value)
            assert line[f"fd:{part}"] == ("" if value is None else shown)


def test_rows_and_estimates_must_go_together() -> None:
    with pytest.raises(ValueError, match="zip"):
        csv_table(["prompt"], [["a"], ["b"]], [{"fd": OK}])


def test_a_forest_plot_leaves_out_what_has_no_value_and_says_why() -> None:
    series = [Series("x", BLUE, [OK, None, NONE], "too long")]
    figure = forest_plot([Panel("red", ["a", "b", "c"], series)], "score")
    (axes,) = figure.axes
    (bar,) = axes.containers
    assert bar.lines[0].get_xdata()[0] == OK.value
    assert [text.get_text().strip() for text in axes.texts] == ["too long", "too long"]
