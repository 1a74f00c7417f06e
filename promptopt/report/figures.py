"""The plots of the report, as HTML fragments; plotly's script is inlined once by the page."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from promptopt.effects import SlotEffects
from promptopt.search import TrialRow, latest

if TYPE_CHECKING:
    from evaluation.estimate import Estimate

_BLUE, _ORANGE, _GREY = "#3b82c4", "#d97706", "#888888"
_OPTION_HEIGHT, _PANEL_GAP = 22, 34  # pixels


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


def slot_effects(found: SlotEffects) -> str:
    """Effect of every option that was tried: a panel a slot, the best on top, on one scale."""
    panels = {
        slot: [effect for effect in found.of(slot) if effect.effect.value is not None]
        for slot in dict.fromkeys(effect.slot for effect in found.effects)
    }
    panels = {slot: own for slot, own in panels.items() if own}
    heights = [len(own) + 0.6 for own in panels.values()]
    pixels = _OPTION_HEIGHT * sum(heights) + _PANEL_GAP * (len(panels) - 1)
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=_PANEL_GAP / pixels if len(panels) > 1 else 0,
        subplot_titles=[html.escape(slot) for slot in panels],
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    for row, own in enumerate(panels.values(), start=1):
        for place, effect in enumerate(own):
            e = effect.effect
            color = _color(e)
            sure = e.status == "ok"
            figure.add_scatter(
                x=[e.value],
                y=[place],
                mode="markers",
                marker={
                    "color": color if sure else "rgba(0,0,0,0)",
                    "size": 9,
                    "line": {"color": color, "width": 2},
                },
                error_x={**_bars([e]), "color": color, "width": 0, "thickness": 2 if sure else 1},
                customdata=[[effect.prompts, _hover(label(effect.option)), _span(e)]],
                hovertemplate="%{customdata[1]}<br>%{x:+.2f}%{customdata[2]}, %{customdata[0]} prompts"
                "<extra></extra>",
                showlegend=False,
                row=row,
                col=1,
            )
        figure.update_yaxes(
            range=[len(own) - 0.2, -0.8],
            tickvals=list(range(len(own))),
            ticktext=[html.escape(label(effect.option)) for effect in own],
            automargin=True,
            row=row,
            col=1,
        )
    figure.add_vline(x=0, line={"color": _GREY, "dash": "dot"})
    figure.update_xaxes(
        title="effect on the score, in baseline SDs (average option of the slot = 0)", row=len(panels), col=1
    )
    return _fragment(figure, "slot-effects", round(pixels) + 110, top=40)


def _color(estimate: Estimate) -> str:
    if estimate.low is not None and estimate.low > 0:
        return _BLUE
    return _ORANGE if estimate.high is not None and estimate.high < 0 else _GREY


def _span(estimate: Estimate) -> str:
    return "" if estimate.low is None else f" ({estimate.low:+.2f} to {estimate.high:+.2f})"


def label(option: str) -> str:
    """An option as shown; without the comma it begins with, the empty one by name, a long one shortened."""
    option = option.lstrip(", ") or option
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


def _fragment(figure: go.Figure, name: str, height: int, *, top: int = 20) -> str:
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": top, "b": 50},
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
