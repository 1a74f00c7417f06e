"""The confirmed prompts of several studies: one table, one chart, one sheet of samples."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.comparison.tables import PARTS
from promptopt.export.paper.sources import FinishedRun
from promptopt.formatting.escapes import latex
from promptopt.formatting.latex import PROSE, latex_table, stacked, stacked_head
from promptopt.scoring.metric_titles import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from promptopt.run.prompts import EstimateEntry, PromptEntry

_BLUE, _GRAY = "#3b82c4", "#9a9a9a"
_LATEX = ("score", "judge_accuracy", "synthetic_to_real", "mmd")
_IMAGES = 8


def prompts_csv(runs: Sequence[FinishedRun]) -> str:
    """Every confirmed prompt of every study, with all metrics of the confirmation."""
    names = _metrics(runs)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["study", "category", "rank", "prompt", "weight", "tied_with_first", "baseline"]
        + [f"{name}:{part}" for name in names for part in PARTS]
    )
    for run in runs:
        for entry in run.prompts.prompts:
            cells: list[object] = []
            for name in names:
                estimate = entry.confirmation.get(name)
                parts = [getattr(estimate, part) if estimate else None for part in PARTS]
                cells += ["" if p is None else f"{p:.6g}" if isinstance(p, float) else p for p in parts]
            plain = entry.candidate == run.prompts.baseline.candidate
            writer.writerow(
                [
                    run.prompts.study,
                    run.prompts.category,
                    entry.rank,
                    entry.label,
                    f"{entry.weight:.6g}",
                    entry.tied_with_first,
                    plain,
                    *cells,
                ]
            )
    return stream.getvalue()


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(run, run.prompts.prompts[:top]) for run in runs]
    count = sum(len(entries) for _, entries in shown)
    figure = Figure(figsize=(10.5, 1.3 + 0.62 * count + 0.35 * len(runs)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    all_axes = figure.subplots(
        len(shown), 1, sharex=True, squeeze=False, height_ratios=[len(entries) + 0.5 for _, entries in shown]
    )
    for axes, (run, entries) in zip(all_axes[:, 0], shown, strict=True):
        labels = []
        for place, entry in enumerate(entries):
            plain = entry.candidate == run.prompts.baseline.candidate
            _bar(axes, place, entry, _GRAY if plain else _BLUE)
            text = entry.label + (" (baseline)" if plain else "")
            labels.append("\n".join(textwrap.wrap(text, 58, max_lines=2, placeholder=" ...")))
        axes.set_yticks(range(len(entries)), labels, fontsize=8.5)
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.set_title(_category(run, runs), loc="left", fontsize=11, fontweight="bold")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    all_axes[-1, 0].set_xlabel(
        "score on fresh seeds, with 95 % interval (baseline prompt = 0, higher is better)"
    )
    return figure


def prompts_samples(runs: Sequence[FinishedRun], store: Path, path: Path, *, top: int) -> tuple[int, int]:
    """A PNG with a row of confirmation images for each prompt; how many were found, of how many wanted.

    Nothing is written where no image is found.
    """
    from promptopt.formatting.contact_sheet import Tile, contact_sheet
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
    digits = 0 if percent else 3 if name == "mmd" else 2

    def number(value: float) -> str:
        return f"{round(100 * value if percent else value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.00"

    text = number(entry.value) + (r" \%" if percent else "") + ("*" if entry.status == "unreliable" else "")
    if entry.low is None or entry.high is None or entry.low == entry.high:
        return stacked(text, "")
    return stacked(text, f"{number(entry.low)} to {number(entry.high)}")


def _bar(axes: Any, place: int, entry: PromptEntry, color: str) -> None:
    score = entry.confirmation["score"]
    if score.value is None:
        axes.text(0, place, " undefined", va="center", fontsize=8, color="#666666")
        return
    hatch = "///" if score.status == "unreliable" else None
    axes.barh(place, score.value, height=0.62, color=color, hatch=hatch, edgecolor="white", linewidth=0)
    if score.low is not None and score.high is not None and score.low < score.high:
        reach = [[score.value - score.low], [score.high - score.value]]
        axes.errorbar(score.value, place, xerr=reach, color="black", capsize=3, linewidth=1.1)
    axes.plot(score.value, place, "o", color=color, markeredgecolor="black", markersize=5, zorder=4)
