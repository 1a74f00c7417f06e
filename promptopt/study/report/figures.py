"""The plots of the report, as HTML fragments; plotly's script is inlined once by the page."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from promptopt.formatting.charts import BLUE, GRAY, ORANGE, error_bars
from promptopt.formatting.numbers import in_cell
from promptopt.run.trials import TrialRow, latest
from promptopt.search.model.effects import SlotEffects

if TYPE_CHECKING:
    from evaluation.estimate import Estimate
    from promptopt.scoring.confirm import Confirmed

_STATES = (
    ("prompt", "circle", BLUE),
    ("lost to another prompt", "circle-open", GRAY),
    ("breaks a constraint", "x", "#d9414b"),
)
_REAL = ("real", "phantom")  # how the names of such sets begin
_OPTION_HEIGHT, _PANEL_GAP = 22, 34  # pixels


def plotly_script() -> str:
    """plotly's JavaScript, about 5 MB."""
    return str(get_plotlyjs())


def history(trials: Sequence[TrialRow]) -> str:
    """Search score of each prompt with its interval, the best so far as a line, and its number of images.

    Prompts that lost to another one, and those that break a constraint, have their own marks; the latter are
    never the best.
    """
    rows = latest(trials)
    x = list(range(1, len(rows) + 1))
    best: list[float | None] = []
    for row in rows:
        known = [
            b for b in (best[-1] if best else None, None if row.violations else row.value) if b is not None
        ]
        best.append(max(known, default=None))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.06)
    for name, symbol, color in _STATES:
        own = [i for i, row in enumerate(rows) if _state(row) == name]
        if not own:
            continue
        figure.add_scatter(
            x=[x[i] for i in own],
            y=[rows[i].value for i in own],
            mode="markers",
            name=name,
            marker={"color": color, "size": 8, "symbol": symbol},
            error_y={**error_bars([rows[i].score for i in own]), "color": faint(color), "width": 0},
            customdata=[[hover(rows[i].candidate.label), rows[i].images, _fate(rows[i])] for i in own],
            hovertemplate="<b>prompt %{x}: %{y:.2f}</b>, %{customdata[1]} images<br>%{customdata[0]}"
            "%{customdata[2]}<extra></extra>",
            row=1,
            col=1,
        )
    figure.add_scatter(
        x=x,
        y=best,
        mode="lines",
        name="best so far (optimistic)",
        line={"color": ORANGE, "shape": "hv"},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    figure.add_bar(
        x=x,
        y=[row.images for row in rows],
        marker={"color": BLUE},
        showlegend=False,
        hovertemplate="prompt %{x}: %{y} images<extra></extra>",
        row=2,
        col=1,
    )
    figure.add_hline(y=0, line={"color": GRAY, "dash": "dot"}, row=1, col=1)
    figure.update_xaxes(title="prompt, in the order tried", row=2, col=1)
    figure.update_yaxes(title="score (baseline = 0)", range=history_range(rows), row=1, col=1)
    figure.update_yaxes(title="images", rangemode="tozero", row=2, col=1)
    return fragment(figure, "history", 500)


def inner_range(
    points: Sequence[tuple[float, Estimate | None]], *, always: Sequence[float] = ()
) -> list[float] | None:
    """Bounds of an axis that leave out far points at first; None shows all.

    Points further from the middle half than three times its width (Tukey's outer fences) would press all
    others into a line. The others are shown with their intervals, and so is `always`.
    """
    values = [value for value, _ in points]
    if len(values) < 4:
        return None
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 3 * (high - low)
    near = [(value, e) for value, e in points if low - reach <= value <= high + reach]
    if reach == 0 or len(near) == len(points):
        return None
    ends = [*always, *(value for value, _ in near)]
    ends += [end for _, e in near if e is not None for end in (e.low, e.high) if end is not None]
    spare = (max(ends) - min(ends)) / 20
    first, last = min(ends) - spare, max(ends) + spare
    return None if first <= min(values) <= max(values) <= last else [first, last]


def history_range(trials: Sequence[TrialRow]) -> list[float] | None:
    """The scores that `history` shows at first; None means all."""
    return inner_range([(row.value, row.score) for row in latest(trials)], always=[0.0])


def optimism(confirmed: Sequence[Confirmed]) -> str | None:
    """Search score against fresh score of each prompt that the search proposed; None without any."""
    pairs = [(one, one.search) for one in confirmed if one.search is not None]
    pairs = [(one, row) for one, row in pairs if one.score.estimate.value is not None]
    if not pairs:
        return None
    searched = [row.score for _, row in pairs]
    fresh = [one.score.estimate for one, _ in pairs]
    bounds = [b for e in (*searched, *fresh) for b in (e.value, e.low, e.high) if b is not None]
    span = [min(0.0, *bounds), max(0.0, *bounds)]
    figure = go.Figure()
    figure.add_scatter(
        x=span,
        y=span,
        mode="lines",
        name="search and fresh score equal",
        line={"color": GRAY, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[e.value for e in searched],
        y=[e.value for e in fresh],
        mode="markers+text",
        name="prompt, by rank",
        text=[f"<b>{one.rank}</b>" for one, _ in pairs],
        cliponaxis=False,
        textposition=corners(len(pairs)),
        marker={"color": BLUE, "size": 9},
        error_x={**error_bars(searched), "color": faint(BLUE), "width": 0},
        error_y={**error_bars(fresh), "color": faint(BLUE), "width": 0},
        customdata=[hover(one.candidate.label) for one, _ in pairs],
        hovertemplate="search %{x:.2f}, fresh %{y:.2f}<br>%{customdata}<extra></extra>",
    )
    figure.update_xaxes(title="score in the search")
    figure.update_yaxes(title="score on fresh seeds")
    return fragment(figure, "optimism", 420)


def closeness(values: Mapping[str, Sequence[float]], title: str, name: str) -> str:
    """One box a set of images, of one number an image."""
    figure = go.Figure()
    for title_, own in values.items():
        color = GRAY if title_.startswith(_REAL) else BLUE
        figure.add_box(
            x=list(map(float, own)),
            name=html.escape(title_),
            marker={"color": color},
            boxpoints=False,
            showlegend=False,
        )
    figure.update_xaxes(title=title)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return fragment(figure, name, 80 + 46 * len(values))


def _state(row: TrialRow) -> str:
    if row.violations:
        return "breaks a constraint"
    return "lost to another prompt" if row.eliminated_by is not None else "prompt"


def _fate(row: TrialRow) -> str:
    said = [f"lost to: {row.eliminated_by}"] if row.eliminated_by is not None else []
    return "".join("<br>" + hover(text) for text in (*said, *row.violations))


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
                error_x={**error_bars([e]), "color": color, "width": 0, "thickness": 2 if sure else 1},
                customdata=[[effect.prompts, hover(label(effect.option)), in_cell(e, "+.2f", mark="")]],
                hovertemplate="%{customdata[1]}<br>%{customdata[2]}, %{customdata[0]} prompts<extra></extra>",
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
    figure.add_vline(x=0, line={"color": GRAY, "dash": "dot"})
    figure.update_xaxes(title="effect in baseline SDs", row=len(panels), col=1)
    return fragment(figure, "slot-effects", round(pixels) + 110, top=40)


def _color(estimate: Estimate) -> str:
    if estimate.low is not None and estimate.low > 0:
        return BLUE
    return ORANGE if estimate.high is not None and estimate.high < 0 else GRAY


def label(option: str) -> str:
    """An option as shown; without the comma it begins with, the empty one by name, a long one shortened."""
    option = option.lstrip(", ") or option
    if not option:
        return "(left out)"
    return option if len(option) <= 40 else option[:37] + "..."


def corners(count: int) -> list[str]:
    """Where labels stand, so that those of neighbors seldom cover each other."""
    places = ("top right", "bottom left", "bottom right", "top left")
    return [places[i % len(places)] for i in range(count)]


def faint(color: str) -> str:
    """A color as pale as an error bar."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def hover(text: str) -> str:
    """A text for plotly's hover boxes, escaped and wrapped."""
    # plotly reads a subset of HTML in hover texts, and a prompt is not HTML.
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, 70))


def fragment(figure: go.Figure, name: str, height: int, *, top: int = 20, titles: bool = False) -> str:
    """The figure as an HTML element with the id `name`; `height` and `top` in pixels.

    With `titles` over its panels the legend, of two lines on a phone, stands at the very top.
    """
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    if titles:
        legend |= {"yref": "container", "y": 1, "yanchor": "top"}
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": top, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GRAY, "family": "system-ui, sans-serif"},
        legend=legend,
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
