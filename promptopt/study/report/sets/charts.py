"""The charts of a search for sets: closeness by number of prompts, and by images made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from promptopt.formatting.charts import BLUE, COLORS, GRAY, ORANGE, error_bars
from promptopt.run.set_names import LESS
from promptopt.study.report.figures import faint, fragment

if TYPE_CHECKING:
    from promptopt.run.prompt_sets import ClassEntry
    from promptopt.study.sets.search import StepDone


def sizes(entries: Sequence[ClassEntry], chosen: Mapping[str, int]) -> str | None:
    """A panel a class: distance on the images fitted to, and on those held out; the chosen size is marked."""
    shown = [entry for entry in entries if len(entry.sizes) > 1]
    if not shown:
        return None
    figure = make_subplots(
        rows=len(shown), cols=1, subplot_titles=[e.label for e in shown], vertical_spacing=0.22 / len(shown)
    )
    for place, entry in enumerate(shown, 1):
        x = [one.prompts for one in entry.sizes]
        held = [one.held_out for one in entry.sizes]
        values = [LESS * (one.value or 0.0) for one in held]
        bars = error_bars(held)
        for key in ("array", "arrayminus"):
            bars[key] = [LESS * reach for reach in bars[key]]
        first = place == 1
        figure.add_scatter(
            x=x, y=values, name="real images held out", mode="lines+markers", marker={"color": BLUE},
            error_y={**bars, "color": faint(BLUE), "width": 0}, showlegend=first, legendgroup="held",
            row=place, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=[LESS * one.fitted for one in entry.sizes], name="real images fitted to", mode="lines",
            line={"color": GRAY, "dash": "dot"}, showlegend=first, legendgroup="fitted", row=place, col=1,
        )  # fmt: skip
        if chosen[entry.label] in x:
            at = x.index(chosen[entry.label])
            figure.add_scatter(
                x=[x[at]], y=[values[at]], name="chosen", mode="markers", showlegend=first,
                legendgroup="chosen",
                marker={"color": ORANGE, "size": 14, "symbol": "circle-open", "line": {"width": 3}},
                row=place, col=1,
            )  # fmt: skip
        figure.update_yaxes(title="distance", row=place, col=1)
        figure.update_xaxes(tickformat="d", dtick=max(1, len(x) // 8), row=place, col=1)
    figure.update_xaxes(title="prompts in the set", row=len(shown), col=1)
    return fragment(figure, "sizes", 110 + 230 * len(shown), top=80, titles=True)


def history(steps: Sequence[StepDone]) -> str | None:
    """By how much each class's set was nearer than the baseline, by images made for the class."""
    if not steps:
        return None
    figure = go.Figure()
    for place, label in enumerate(dict.fromkeys(step.label for step in steps)):
        own = [step for step in steps if step.label == label]
        figure.add_scatter(
            x=[step.images for step in own], y=[LESS * step.nearer for step in own], name=label,
            mode="lines+markers", line={"color": COLORS[place % len(COLORS)], "shape": "hv"},
            hovertemplate="%{x} images: nearer by %{y:.0f}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_xaxes(title="images made for the class", rangemode="tozero")
    figure.update_yaxes(title="nearer than the baseline by", rangemode="tozero")
    return fragment(figure, "history", 320)
