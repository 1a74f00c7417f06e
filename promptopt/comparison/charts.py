"""Charts of the metrics: each generator's value with its interval, a panel for each table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.naming import slug
from promptopt.comparison.run import GeneratorComparison
from promptopt.comparison.scores import Score
from promptopt.formatting.charts import BLUE, Panel, Series, forest_plot, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_charts(comparison: GeneratorComparison, folder: Path) -> list[Path]:
    """One PNG for each metric that stands in the tables; whole or not at all."""
    by_name: dict[str, list[Score]] = {}
    for score in comparison.of():
        by_name.setdefault(score.name, []).append(score)
    return [
        save_figure(chart(comparison, scores), folder / f"chart-{slug(name)}.png")
        for name, scores in by_name.items()
    ]


def chart(comparison: GeneratorComparison, scores: Sequence[Score]) -> Figure:
    """The figure of one metric."""
    panels = []
    for scope in comparison.scopes:
        own = [score for score in scores if score.scope == scope.title]
        if own:
            sizes = sorted({score.estimate.n for score in own})
            title = f"{scope.title}, n = {' to '.join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))}"
            panels.append(
                Panel(title, [s.generator for s in own], [Series("", BLUE, [s.estimate for s in own])])
            )
    percent = scores[0].metric == "memorization"
    return forest_plot(
        panels,
        f"{scores[0].name}{' (%)' if percent else ''}, {scores[0].better} is better; with 95 % interval, "
        "hollow: unreliable at this n",
        scale=100 if percent else 1,
        zero=any(s.estimate.low is not None and s.estimate.low <= 0 for s in scores),
        digits=".1f" if percent else ".3g",
    )
