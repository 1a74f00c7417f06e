"""The terms of the score against each other: which prompts nothing beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from evaluation.estimate import Estimate
from promptopt.formatting.charts import error_bars
from promptopt.run.trials import TrialRow, latest
from promptopt.study.report.figures import (
    BLUE,
    GRAY,
    ORANGE,
    corners,
    faint,
    fragment,
    hover,
    inner_range,
)

if TYPE_CHECKING:
    from promptopt.scoring.confirm import Confirmed

MEANINGS = {
    "alignment": "alignment: how clearly the encoder sees the category",
    "utility": "utility: how sure a classifier trained on real images is",
    "distance": "closeness: how near to the real images",
}


@dataclass(frozen=True)
class Tradeoffs:
    """The figure as HTML; `cut`: some prompts lie outside the axes at first."""

    html: str
    cut: bool


def tradeoffs(trials: Sequence[TrialRow], confirmed: Sequence[Confirmed]) -> Tradeoffs | None:
    """Mean gain over the baseline in two terms, searched and confirmed; None with fewer than two terms.

    The page's list of pairs puts others of `term_pairs` on the axes: their coordinates are in the figure's
    `meta`, by pair.
    """
    pairs = term_pairs(confirmed)
    if not pairs:
        return None
    rows = [row for row in latest(trials) if row.terms()]
    searched = {name: [_mean(row.terms()[name]) for row in rows] for name in _terms(confirmed)}
    fresh = {
        name: [Estimate.of_mean(one.score.gains[name]) for one in confirmed] for name in _terms(confirmed)
    }
    views: list[dict[str, Any]] = []
    for x, y in pairs:
        allowed = [not row.violations for row in rows]
        edge = front(
            [pair for pair, ok in zip(zip(searched[x], searched[y], strict=True), allowed, strict=True) if ok]
        )
        views.append(
            {
                "ranges": [_range(searched[x], fresh[x]), _range(searched[y], fresh[y])],
                "x": [searched[x], [p[0] for p in edge], [e.value for e in fresh[x]]],
                "y": [searched[y], [p[1] for p in edge], [e.value for e in fresh[y]]],
                "bars_x": error_bars(fresh[x]),
                "bars_y": error_bars(fresh[y]),
                "titles": [_axis(x), _axis(y)],
            }
        )
    cut = any(bounds is not None for view in views for bounds in view["ranges"])
    return Tradeoffs(fragment(_figure(rows, confirmed, views), "tradeoffs", 480), cut)


def _range(searched: Sequence[float], fresh: Sequence[Estimate]) -> list[float] | None:
    ends = [end for e in fresh for end in (e.value, e.low, e.high) if end is not None]
    return inner_range([(value, None) for value in searched], always=[0.0, *ends])


def _figure(
    rows: Sequence[TrialRow], confirmed: Sequence[Confirmed], views: list[dict[str, Any]]
) -> go.Figure:
    figure = go.Figure(layout={"meta": {"views": views}})
    figure.add_scatter(
        mode="markers",
        name="in the search",
        marker={
            "color": GRAY,
            "size": 7,
            "symbol": ["x-thin-open" if row.violations else "circle" for row in rows],
        },
        customdata=[hover(row.candidate.label) for row in rows],
        hovertemplate="search: %{x:+.2f}, %{y:+.2f}<br>%{customdata}<extra></extra>",
    )
    figure.add_scatter(
        mode="lines",
        name="front of the search",
        line={"color": GRAY, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        mode="markers+text",
        name="on fresh seeds, by rank",
        text=[f"<b>{one.rank}</b>" for one in confirmed],
        cliponaxis=False,
        textposition=corners(len(confirmed)),
        marker={
            "color": [ORANGE if one.contradicted_by is not None else BLUE for one in confirmed],
            "size": 10,
            "symbol": ["star" if one.front else "diamond" for one in confirmed],
        },
        error_x={"color": faint(BLUE), "width": 0},
        error_y={"color": faint(BLUE), "width": 0},
        customdata=[hover(one.candidate.label) for one in confirmed],
        hovertemplate="fresh: %{x:+.2f}, %{y:+.2f}<br>%{customdata}<extra></extra>",
    )
    first = views[0]
    for trace, x, y in zip(figure.data, first["x"], first["y"], strict=True):
        trace.update(x=x, y=y)
    figure.data[2].update(error_x=first["bars_x"], error_y=first["bars_y"])
    figure.update_xaxes(title=first["titles"][0], range=first["ranges"][0])
    figure.update_yaxes(title=first["titles"][1], range=first["ranges"][1])
    return figure


def term_pairs(confirmed: Sequence[Confirmed]) -> list[tuple[str, str]]:
    """Every two terms of the score."""
    return list(combinations(_terms(confirmed), 2))


def _terms(confirmed: Sequence[Confirmed]) -> list[str]:
    return list(confirmed[0].score.gains) if confirmed else []


def gains(one: Confirmed) -> Mapping[str, Estimate]:
    """Mean gain over the baseline by term, on fresh seeds."""
    return {name: Estimate.of_mean(values) for name, values in one.score.gains.items()}


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one beats in both coordinates, from left to right.

    Example:
        >>> front([(0, 3), (1, 1), (2, 2), (3, 0), (2, 0)])
        [(0, 3), (2, 2), (3, 0)]
    """
    found: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found[::-1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _axis(name: str) -> str:
    return f"{'closeness' if name == 'distance' else name}: gain in baseline SDs"
