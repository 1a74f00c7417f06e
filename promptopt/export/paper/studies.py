"""The confirmed prompts of several studies: one table, one chart, one sheet of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.export.paper.sources import FinishedRun
from promptopt.formatting.charts import BLUE, Panel, Series, forest_plot
from promptopt.formatting.escapes import latex
from promptopt.formatting.latex import PROSE, latex_table, stacked, stacked_head
from promptopt.formatting.numbers import value_and_interval
from promptopt.formatting.tables import csv_table
from promptopt.scoring.metric_titles import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from promptopt.run.prompts import EstimateEntry

_LATEX = ("score", "judge_accuracy", "synthetic_to_real", "mmd")
_IMAGES = 8


def prompts_csv(runs: Sequence[FinishedRun]) -> str:
    """Every confirmed prompt of every study, with all metrics of the confirmation."""
    listed = [(r.prompts, e, r.prompts.baseline.candidate) for r in runs for e in r.prompts.prompts]
    return csv_table(
        ["study", "category", "rank", "prompt", "weight", "tied_with_first", "baseline"],
        [
            [p.study, p.category, e.rank, e.label, e.weight, e.tied_with_first, e.candidate == baseline]
            for p, e, baseline in listed
        ],
        [e.confirmation for _, e, _ in listed],
    )


def prompts_latex(runs: Sequence[FinishedRun], *, top: int) -> str:
    """The first few prompts by category; needs ``\\usepackage{array,booktabs,graphicx}``."""
    names = [name for name in _LATEX if name in _metrics(runs)]
    titles = {metric.name: metric for metric in METRICS}
    heads = ["Category", "Prompt", "Weight"]
    for name in names:
        arrow = r"$\uparrow$" if titles[name].better == "higher" else r"$\downarrow$"
        heads.append(stacked_head(titles[name].title, arrow))
    body: list[str] = []
    for number, run in enumerate(runs):
        body += [r"\midrule"] if number else []
        for place, entry in enumerate(run.prompts.prompts[:top]):
            first = _category(run, runs) if place == 0 else ""
            mark = r"\textsuperscript{=}" if entry.tied_with_first and entry.rank > 1 else ""
            plain = " (baseline)" if entry.candidate == run.prompts.baseline.candidate else ""
            prompt = latex(entry.label + plain)
            cells = [_cell(entry.confirmation.get(name), name) for name in names]
            weight = f"{entry.weight:.2f}" if entry.weight else "--"
            body.append(" & ".join([latex(first), prompt + mark, weight, *cells]) + r" \\")
    fresh = sorted({run.prompts.settings["confirm"]["images"] for run in runs})
    caption = (
        f"Confirmed prompts by category, on {' or '.join(map(str, fresh))} fresh images each and real images "
        "that the search had not seen; 95 % intervals in brackets. Score: difference from the baseline "
        "prompt in standard deviations of its images. =: tied with the first. *: unreliable at this "
        "number of images."
    )
    return latex_table(
        caption,
        label="prompts",
        columns=rf"l{PROSE}{{4cm}}r" + "r" * len(names),
        heads=[" & ".join(heads) + r" \\"],
        body=body,
    )


def prompts_chart(runs: Sequence[FinishedRun], *, top: int) -> Figure:
    """Score of the first few prompts by category with intervals; drawn without a display."""
    panels = []
    for run in runs:
        entries = run.prompts.prompts[:top]
        baseline = run.prompts.baseline.candidate
        lines = [e.label + (" (baseline)" if e.candidate == baseline else "") for e in entries]
        scores = [entry.confirmation["score"] for entry in entries]
        panels.append(Panel(_category(run, runs), lines, [Series("", BLUE, scores)]))
    return forest_plot(
        panels, "score on fresh seeds, with 95 % interval (baseline prompt = 0, higher is better)"
    )


def prompts_samples(runs: Sequence[FinishedRun], store: Path, path: Path, *, top: int) -> tuple[int, int]:
    """A PNG with a row of confirmation images for each prompt; how many were found, of how many wanted.

    Nothing is written where no image is found.
    """
    from promptopt.formatting.pictures import Tile, contact_sheet
    from promptopt.run.images import RunImages

    rows: list[tuple[str, list[Tile]]] = []
    found = wanted = 0
    for run in runs:
        images = RunImages.open(run.folder, store=store)
        number = min(_IMAGES, images.count("confirmation"))
        for entry in run.prompts.prompts[:top]:
            stored = images.present(entry.candidate, stage="confirmation", count=number)
            found += len(stored)
            wanted += number
            title = f"{_category(run, runs)}, {entry.rank}: " + entry.label
            if stored:
                rows.append((title, [Tile(image.load(), "") for image in stored]))
    if rows:
        contact_sheet(rows, path, columns=_IMAGES)
    return found, wanted


def _metrics(runs: Sequence[FinishedRun]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for e in run.prompts.prompts for name in e.confirmation))


def _category(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    """The category, with the study's name where another study has the same one."""
    alike = [other for other in runs if other.prompts.category == run.prompts.category]
    return run.prompts.category + (f" ({run.prompts.study})" if len(alike) > 1 else "")


def _cell(entry: EstimateEntry | None, name: str) -> str:
    if entry is None or entry.value is None:
        return "--"
    percent = name in ("judge_accuracy", "synthetic_to_real")
    style = ".0f" if percent else ".3f" if name == "mmd" else ".2f"
    unit = r" \%" if percent else ""
    text, interval = value_and_interval(entry, style, scale=100 if percent else 1, unit=unit)
    return stacked(text, "" if entry.low == entry.high else interval)
