"""Bar charts: a group for each table, a bar for each generator, with its interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.base.files import new_file
from promptopt.comparison.run import REAL, GeneratorComparison
from promptopt.comparison.scopes import slug
from promptopt.comparison.scores import Score
from promptopt.comparison.tables import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = ("#3b82c4", "#d97706", "#4d9f5b", "#9c5bb5", "#c44e52", "#5f9ea0", "#8c6d31", "#d6619e")
_GRAY = "#9a9a9a"


def write_charts(comparison: GeneratorComparison, folder: Path) -> list[Path]:
    """One PNG for each metric that stands in the tables; whole or not at all."""
    written = []
    names = dict.fromkeys(score.name for score in comparison.of())
    for name in names:
        scores = [score for score in comparison.of() if score.name == name]
        path = folder / f"chart-{slug(name)}.png"
        with new_file(path) as partial:
            chart(comparison, scores).savefig(partial, format="png", dpi=150)
        written.append(path)
    return written


def chart(comparison: GeneratorComparison, scores: Sequence[Score]) -> Figure:
    """The figure of one metric; drawn without a display and without touching matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = [s.title for s in comparison.scopes if any(score.scope == s.title for score in scores)]
    generators = list(dict.fromkeys(score.generator for score in scores))
    found = {(score.scope, score.generator): score for score in scores}
    colors = dict(zip((g for g in generators if g != REAL), _cycle(_COLORS), strict=False)) | {REAL: _GRAY}
    scale = 100.0 if scores[0].metric == "memorization" else 1.0
    figure = Figure(figsize=(2.2 + 1.1 * max(len(titles), 2) + 0.42 * len(titles) * len(generators), 4.2))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(generators)
    for place, title in enumerate(titles):
        for index, generator in enumerate(generators):
            x = place + (index - (len(generators) - 1) / 2) * width
            _bar(axes, x, width, found.get((title, generator)), colors[generator], scale)
    axes.set_xticks(range(len(titles)), [_tick(title, scores) for title in titles])
    axes.set_xlim(-0.6, len(titles) - 0.4)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.margins(y=0.1)
    if all(s.estimate.low is None or s.estimate.low >= 0 for s in scores):
        axes.set_ylim(bottom=0)
    first = scores[0]
    axes.set_ylabel(f"{first.name}{' (%)' if scale > 1 else ''}\n{first.better} is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    _legend(figure, generators, colors, scores)
    return figure


def _bar(axes: Any, x: float, width: float, score: Score | None, color: str, scale: float) -> None:
    if score is None:
        return
    estimate = score.estimate
    if estimate.value is None:
        axes.text(x, 0, " undefined", rotation=90, ha="center", va="bottom", fontsize=8, color="#666666")
        return
    axes.bar(
        x,
        scale * estimate.value,
        width=0.9 * width,
        color=color,
        edgecolor="white",
        linewidth=0,
        hatch="///" if estimate.status == "unreliable" else None,
    )
    top = estimate.value
    if estimate.low is not None and estimate.high is not None:
        gaps = [[scale * (estimate.value - estimate.low)], [scale * (estimate.high - estimate.value)]]
        axes.errorbar(x, scale * estimate.value, yerr=gaps, color="black", capsize=3, linewidth=1.1)
        top = estimate.high
    # a point as well: a bar of height 0 cannot be seen
    axes.plot(x, scale * estimate.value, "o", color=color, markeredgecolor="black", markersize=5, zorder=4)
    where = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
    axes.annotate(shown(score)[0], (x, scale * max(top, 0.0)), **where)


def _tick(title: str, scores: Sequence[Score]) -> str:
    sizes = sorted({s.estimate.n for s in scores if s.scope == title})
    counted = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    return "\n".join([*textwrap.wrap(title, 22), counted])


def _legend(figure: Any, generators: Sequence[str], colors: dict[str, str], scores: Sequence[Score]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=colors[g], label=g) for g in generators]
    if any(s.estimate.status == "unreliable" for s in scores):
        handles.append(
            Patch(facecolor="#cccccc", edgecolor="white", hatch="///", label="unreliable at this n")
        )
    if any(s.estimate.low is not None for s in scores):
        handles.append(Line2D([], [], color="black", marker="|", linewidth=1.1, label="95 % interval"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(3, len(handles)), frameon=False, fontsize=9
    )


def _cycle(colors: Sequence[str]) -> Any:
    from itertools import cycle

    return cycle(colors)
