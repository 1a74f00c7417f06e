"""Intervals as forest plots: with matplotlib for files, with plotly for pages."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.base.files import new_file
from promptopt.formatting.numbers import AnyEstimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "#3b82c4", "#d97706", "#888888"
COLORS = (BLUE, ORANGE, "#4d9f5b", "#9c5bb5", "#c44e52", "#5f9ea0", "#8c6d31", "#d6619e")


@dataclass(frozen=True)
class Series:
    """Estimates of one color, one for each line of a panel; None where there is none.

    Attributes:
        missing: written in place of an estimate without a value.
    """

    name: str
    color: str
    estimates: Sequence[AnyEstimate | None]
    missing: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines under a title, and what stands on them."""

    title: str
    lines: Sequence[str]
    series: Sequence[Series]


def forest_plot(
    panels: Sequence[Panel], axis: str, *, scale: float = 1.0, zero: bool = True, digits: str = ""
) -> Figure:
    """Panels below each other on one axis; hollow marks are unreliable. Drawn without a display.

    Args:
        axis: what the axis shows.
        scale: what the numbers are multiplied by, 100 for percent.
        zero: a line at 0.
        digits: a format specification with which values are written beside their marks; none by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [len(panel.lines) * (0.6 + 0.4 * len(panel.series)) + 0.6 for panel in panels]
    figure = Figure(figsize=(10, 1.5 + 0.36 * sum(heights) + 0.4 * len(panels)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        for index, series in enumerate(panel.series):
            _draw(axes, series, (index + 0.5) / len(panel.series) * 0.8 - 0.4, scale, digits)
        lines = [textwrap.fill(line, 48, max_lines=3, placeholder=" ...") for line in panel.lines]
        axes.set_yticks(range(len(lines)), lines, fontsize=8.5)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
        if zero:
            axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    all_axes[-1].set_xlabel(axis)
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if len(handles) > 1:
        shown = (list(handles.values()), list(handles))
        figure.legend(*shown, loc="outside upper left", ncols=min(4, len(handles)), frameon=False, fontsize=9)
    return figure


def _draw(axes: Any, series: Series, offset: float, scale: float, digits: str) -> None:
    name: str | None = series.name
    for line, estimate in enumerate(series.estimates):
        place = line + offset
        if estimate is None or estimate.value is None:
            missing = series.missing or ("" if estimate is None else "undefined")
            left = {"transform": axes.get_yaxis_transform(), "va": "center"}  # seen wherever the others lie
            axes.text(0, place, f" {missing}" if missing else "", color=series.color, fontsize=8, **left)
            continue
        reach = [[scale * way] for way in _reach(estimate)]
        axes.errorbar(
            scale * estimate.value, place, xerr=reach, fmt="o", color=series.color, markersize=5, capsize=3,
            markerfacecolor="white" if estimate.status == "unreliable" else series.color, label=name,
        )  # fmt: skip
        name = None  # once in the legend
        if digits:
            above = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
            text = format(scale * estimate.value, digits)
            axes.annotate(text, (scale * estimate.value, place), (0, 3), **above)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all."""
    with new_file(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
    return path


def error_bars(estimates: Sequence[AnyEstimate]) -> dict[str, Any]:
    """Error bars for plotly."""
    reaches = [_reach(estimate) for estimate in estimates]
    return {
        "type": "data",
        "symmetric": False,
        "array": [above for _, above in reaches],
        "arrayminus": [below for below, _ in reaches],
    }


def _reach(estimate: AnyEstimate) -> tuple[float, float]:
    """How far the interval reaches below and above the value."""
    ends = (estimate.low, estimate.high)
    below, above = (0.0 if e is None or estimate.value is None else abs(e - estimate.value) for e in ends)
    return below, above
