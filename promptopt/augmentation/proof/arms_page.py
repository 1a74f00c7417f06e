"""The figure of the classifier arms: one self-contained HTML page."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from plotly.subplots import make_subplots

from promptopt.formatting.charts import BLUE, GRAY, ORANGE, error_bars
from promptopt.formatting.pages import ICON
from promptopt.study.report.figures import fragment, plotly_script

if TYPE_CHECKING:
    from evaluation.classifier.results import ArmRow, ArmsResult

_SHOWN = ("balanced_accuracy", "accuracy", "macro_f1", "auroc", "ece")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Classifier arms</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{icon}
<style>
body{{background:#fff;color:#14212b;font-family:system-ui,sans-serif}}
body{{margin:2rem auto;max-width:1200px;padding:0 1rem}}
</style>
<script>{script}</script></head><body>
<h1>What synthetic images are worth to a classifier</h1>
<p>{about}</p>
{figures}
</body></html>
"""


def arms_page(result: ArmsResult) -> str:
    """Every metric with its interval, one panel a metric, and the confusion matrices; one block a scope."""
    blocks = []
    for number, scope in enumerate(result.scopes):
        rows = result.where(scope=scope)
        blocks.append(f"<h2>{html.escape(scope)} test images</h2>")
        blocks.append(_scores(rows, f"scores-{number}"))
        blocks.append(_confusions(rows, result.classes, f"confusion-{number}"))
    settings = result.settings
    about = (
        f"{settings['learner']}, {len(settings['seeds'])} seeds, {len(result.classes)} classes. "
        f"R: {settings['real_train']} real training images, S: synthetic ones. Dots are means over the "
        f"seeds, bars intervals of {settings['level']:.0%} over seeds and groups of test images; hollow dots "
        "are unreliable (few test groups or seeds). The dotted line is R->R. TRTR: train real, test real; "
        "TSTR: train synthetic, test real; TRTS and TSTS likewise."
    )
    figures = "\n".join(blocks)
    return _PAGE.format(icon=ICON, script=plotly_script(), about=html.escape(about), figures=figures)


def _scores(rows: list[ArmRow], name: str) -> str:
    shown = [m for m in _SHOWN if any(row.estimates[m].value is not None for row in rows)]
    figure = make_subplots(
        rows=1, cols=len(shown), shared_yaxes=True, subplot_titles=[m.replace("_", " ") for m in shown]
    )
    for column, metric in enumerate(shown, start=1):
        known = [row for row in rows if row.estimates[metric].value is not None]
        estimates = [row.estimates[metric] for row in known]
        figure.add_scatter(
            x=[e.value for e in estimates],
            y=[row.arm.label for row in known],
            mode="markers",
            marker={
                "color": [ORANGE if row.arm.name == "R->R" else BLUE for row in known],
                "symbol": ["circle" if e.status == "ok" else "circle-open" for e in estimates],
                "size": 9,
            },
            error_x={**error_bars(estimates), "color": GRAY, "width": 3},
            customdata=[f"{row.train_real} real + {row.train_synthetic} synthetic" for row in known],
            hovertemplate="%{y}: %{x:.3f}<br>trained on %{customdata}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        if known[0].arm.name == "R->R":
            figure.add_vline(x=estimates[0].value, line={"color": ORANGE, "dash": "dot"}, row=1, col=column)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return fragment(figure, name, 160 + 34 * len(rows))


def _confusions(rows: list[ArmRow], classes: tuple[str, ...], name: str) -> str:
    figure = make_subplots(
        rows=1, cols=len(rows), shared_yaxes=True, subplot_titles=[row.arm.label for row in rows]
    )
    for column, row in enumerate(rows, start=1):
        figure.add_heatmap(
            z=[[cell.value for cell in line] for line in row.confusion],
            x=list(classes),
            y=list(classes),
            zmin=0,
            zmax=1,
            colorscale="Blues",
            showscale=column == len(rows),
            hovertemplate="%{y} read as %{x}: %{z:.2f}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(automargin=True)
    return fragment(figure, name, 240 + 14 * len(classes))
