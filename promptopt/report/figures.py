"""The plots of the report, as HTML fragments; plotly's script is inlined once by the page."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from promptopt.report.effects import OptionEffect
from promptopt.search import TrialRow, latest

if TYPE_CHECKING:
    from evaluation.estimate import Estimate

_BLUE, _ORANGE, _GREY = "#3b82c4", "#d97706", "#888888"


def plotly_script() -> str:
    """plotly's JavaScript, about 5 MB."""
    return str(get_plotlyjs())


def score_per_trial(trials: Sequence[TrialRow]) -> str:
    """Search score of each prompt with its interval, the best so far as a line, the prompt on hover."""
    rows = latest(trials)
    x = list(range(1, len(rows) + 1))
    values = [row.value for row in rows]
    best = [max(values[: i + 1]) for i in range(len(values))]
    figure = go.Figure()
    figure.add_scatter(
        x=x,
        y=values,
        mode="markers",
        name="prompt",
        marker={"color": _BLUE, "size": 8},
        error_y={**_bars([row.score for row in rows]), "color": "rgba(59,130,196,0.35)", "width": 0},
        customdata=[_hover(row.prompt) for row in rows],
        hovertemplate="<b>trial %{x}: %{y:.2f}</b><br>%{customdata}<extra></extra>",
    )
    figure.add_scatter(
        x=x,
        y=best,
        mode="lines",
        name="best so far (optimistic)",
        line={"color": _ORANGE, "shape": "hv"},
        hoverinfo="skip",
    )
    figure.add_hline(y=0, line={"color": _GREY, "dash": "dot"})
    figure.update_xaxes(title="prompt, in the order tried")
    figure.update_yaxes(title="score (baseline prompt = 0)")
    return _fragment(figure, "score-per-trial", 420)


def slot_effects(effects: Sequence[OptionEffect]) -> str:
    """Mean score by slot option, one row an option, grouped by slot."""
    shown = [effect for effect in effects if effect.mean.value is not None]
    figure = go.Figure()
    for slot in dict.fromkeys(effect.slot for effect in shown):
        own = [effect for effect in shown if effect.slot == slot]
        figure.add_scatter(
            x=[effect.mean.value for effect in own],
            y=[[slot] * len(own), [label(effect.option) for effect in own]],
            mode="markers",
            marker={"color": _BLUE, "size": 8},
            error_x={**_bars([effect.mean for effect in own]), "color": _GREY, "width": 3},
            customdata=[[effect.trials, _hover(label(effect.option))] for effect in own],
            hovertemplate="%{customdata[1]}<br>mean score %{x:.2f}, %{customdata[0]} prompts<extra></extra>",
            showlegend=False,
        )
    figure.add_vline(x=0, line={"color": _GREY, "dash": "dot"})
    figure.update_xaxes(title="mean score of the prompts with this option (baseline prompt = 0)")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return _fragment(figure, "slot-effects", 140 + 24 * len(shown))


def label(option: str) -> str:
    """An option as shown; the empty one by name, a long one shortened."""
    if not option:
        return "(left out)"
    return option if len(option) <= 40 else option[:37] + "..."


def _bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    def reach(estimate: Estimate, bound: float | None) -> float:
        return 0.0 if bound is None or estimate.value is None else abs(bound - estimate.value)

    return {
        "type": "data",
        "symmetric": False,
        "array": [reach(e, e.high) for e in estimates],
        "arrayminus": [reach(e, e.low) for e in estimates],
    }


def _hover(text: str) -> str:
    # plotly reads a subset of HTML in hover texts, and a prompt is not HTML.
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, 70))


def _fragment(figure: go.Figure, name: str, height: int) -> str:
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _GREY, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": 1.08},
        template="none",
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    return str(
        plotly.io.to_html(
            figure,
            include_plotlyjs=False,
            full_html=False,
            div_id=name,
            config={"displaylogo": False, "responsive": True, "displayModeBar": False},
        )
    )
