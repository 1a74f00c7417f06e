"""The sets of studies: tables of their prompts and of what was confirmed, a chart, and a sheet of samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.files import write_text
from promptopt.formatting.charts import BLUE, Panel, Series, forest_plot, save_figure
from promptopt.formatting.escapes import latex
from promptopt.formatting.latex import PROSE, latex_table, stacked, stacked_head
from promptopt.formatting.numbers import value_and_interval
from promptopt.run.prompt_sets import CONFIRMED, SetList
from promptopt.run.set_names import LESS, SHORT
from promptopt.run.set_tables import write_set_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from promptopt.run.prompts import EstimateEntry

_IMAGES = 8


@dataclass(frozen=True)
class SetRun:
    """A run folder of a study of sets with its prompts.json."""

    folder: Path
    sets: SetList


def write_sets_of_paper(
    run: SetRun, folder: Path, *, label: str, store: Path, top: int
) -> tuple[list[Path], list[str]]:
    """Write everything of one study into a folder that is there; the files, and notes of what is missing.

    Args:
        label: of the LaTeX tables, after ``tab:``.
        top: prompts of a class in the LaTeX table.
    """
    sets = run.sets
    written = [
        *write_set_tables(folder, sets),
        write_text(folder / "sets.tex", prompts_latex(sets, label=f"{label}-prompts", top=top)),
        write_text(folder / "methods.tex", methods_latex(sets, label=f"{label}-methods")),
        save_figure(closeness_chart(sets), folder / "chart-closeness.png"),
    ]
    if not (store / "images").is_dir():
        return written, [f"{store}: no store of images there, so there are no samples; name it (--store)"]
    samples = folder / "samples.png"
    found, wanted = write_samples(run, store, samples)
    notes = []
    if found:
        written.append(samples)
    if found < wanted:
        notes.append(
            f"{wanted - found} of {wanted} images for the samples are not in {store}; name the store that "
            "the study was run with (--store)"
        )
    return written, notes


def prompts_latex(sets: SetList, *, label: str, top: int) -> str:
    """The first few prompts of each class's set; needs ``\\usepackage{array,booktabs,graphicx}``."""
    body: list[str] = []
    for number, entry in enumerate(sets.classes):
        body += [r"\midrule"] if number else []
        for place, one in enumerate(entry.set.prompts[:top]):
            first = latex(entry.label) if place == 0 else ""
            cells = [first, latex(one.candidate.label), f"{one.weight:.2f}", f"{LESS * one.adds:.1f}"]
            body.append(" & ".join(cells) + r" \\")
        if (left := len(entry.set.prompts) - top) > 0:
            body.append(rf" & and {left} more & & \\")
    caption = (
        "The set of prompts of each class. Weight: share of the images. Adds: by how much the squared "
        f"maximum mean discrepancy (times {LESS}) to the real images that it was fitted to would grow "
        "without it."
    )
    heads = ["Class & Prompt & Weight & Adds" + r" \\"]
    return latex_table(caption, label=label, columns=rf"l{PROSE}{{8cm}}rr", heads=heads, body=body)


def methods_latex(sets: SetList, *, label: str) -> str:
    """What was confirmed of the set and of all that it was compared with, by class."""
    fresh = len(sets.seeds.confirmation)
    body: list[str] = []
    second = any(entry.second_encoder for entry in sets.classes)
    heads = [stacked_head(f"MMD² x {LESS}", r"$\downarrow$")]
    heads += [stacked_head(f"MMD² x {LESS} (second encoder)", r"$\downarrow$")] if second else []
    heads += [stacked_head("Fréchet distance", r"$\downarrow$")]
    for entry in sets.classes:
        body += [r"\midrule"] if body else []
        for place, method in enumerate(entry.closeness):
            cells = [_cell(entry.closeness[method], ".1f", LESS)]
            cells += [_cell(entry.second_encoder.get(method), ".1f", LESS)] if second else []
            cells += [_cell(entry.metrics.get(method, {}).get("frechet"), ".2f", 1)]
            if sets.accuracy:
                cells.append("")
            name = latex(SHORT.get(method, method))
            body.append(" & ".join([latex(entry.label) if place == 0 else "", name, *cells]) + r" \\")
    if sets.accuracy:
        heads.append(stacked_head("Balanced accuracy", r"$\uparrow$"))
        body.append(r"\midrule")
        for place, (method, found) in enumerate(sets.accuracy.items()):
            name = latex(SHORT.get(method, method))
            cells = [*[""] * (len(heads) - 1), _cell(found, ".1f", 100)]
            body.append(" & ".join(["all" if place == 0 else "", name, *cells]) + r" \\")
    caption = (
        f"Images of each kind of prompts: {fresh} fresh ones a class, against real images that the search "
        "had not seen; 95 % intervals in brackets."
    )
    if sets.accuracy:
        caption += (
            " Balanced accuracy: of a small network trained on real images and these, in percent, on real "
            "images of the test pool."
        )
    return latex_table(
        caption,
        label=label,
        columns="ll" + "r" * len(heads),
        heads=[" & ".join(["Class", "Images of", *heads]) + r" \\"],
        body=body,
    )


def closeness_chart(sets: SetList) -> Figure:
    """Distance of each method's images from real ones, by class; drawn without a display."""
    panels = [
        Panel(
            entry.label,
            [SHORT.get(method, method) for method in entry.closeness],
            [Series("", BLUE, list(entry.closeness.values()))],
        )
        for entry in sets.classes
    ]
    return forest_plot(panels, "MMD² to unseen real images, with 95 % interval (lower is better)")


def write_samples(run: SetRun, store: Path, path: Path) -> tuple[int, int]:
    """A PNG with a row of confirmation images a class and method; how many were found, of how many wanted.

    Nothing is written where no image is found. Random prompts, and those of the learned template, stand in
    no file of the run, so they have no row.
    """
    from promptopt.formatting.pictures import Tile, contact_sheet
    from promptopt.run.images import RunImages

    rows: list[tuple[str, list[Tile]]] = []
    found = wanted = 0
    for images in RunImages.open_classes(run.folder, store=store):
        for method in CONFIRMED:
            candidates = run.sets.confirmed(str(images.label), method)[:_IMAGES]
            stored = [one for one in images.find_each(candidates, stage="confirmation") if one is not None]
            found += len(stored)
            wanted += len(candidates)
            if stored:
                title = f"{images.label}: {SHORT[method]}"
                rows.append((title, [Tile(image.load(), "") for image in stored]))
    if rows:
        contact_sheet(rows, path, columns=_IMAGES)
    return found, wanted


def _cell(entry: EstimateEntry | None, style: str, scale: int) -> str:
    if entry is None or entry.value is None:
        return "--"
    text, interval = value_and_interval(entry, style, scale=scale)
    return stacked(text, "" if entry.low == entry.high else interval)
