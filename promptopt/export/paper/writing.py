"""Everything that `promptopt tables` leaves in its folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from generators.stores.address import store_folder
from promptopt.base.files import new_file, writable_folder, write_text
from promptopt.base.naming import slug
from promptopt.comparison.charts import write_charts
from promptopt.comparison.tables import long_csv, table_csv, table_latex
from promptopt.export.paper.captions import write_cloud
from promptopt.export.paper.generators import summary_csv, summary_latex
from promptopt.export.paper.sets import write_sets_of_paper
from promptopt.export.paper.sources import SAMPLES, Comparisons, FinishedRun, Sources
from promptopt.export.paper.studies import prompts_chart, prompts_csv, prompts_latex, prompts_samples
from promptopt.formatting.charts import save_figure


def write_tables(
    sources: Sources,
    out: str | Path,
    *,
    store: str | Path = "store",
    top: int = 5,
) -> tuple[list[Path], list[str]]:
    """Write tables (CSV, LaTeX), charts and samples (PNG); same input, same files.

    Args:
        out: `OUT/generators` for comparisons (numbered where they were measured differently and so cannot
            share a table), `OUT/prompts` for studies of single prompts, `OUT/sets` for one of sets (numbered
            where there are several). Files of those names are replaced.
        store: of the studies' images, for the samples.
        top: prompts of a study or class in the LaTeX table, the chart and the samples; the CSV has all.

    Returns:
        the files, and notes: what the numbers do not say, and what is missing.

    Raises promptopt.base.files.FileError where a folder cannot be written.
    """
    written: list[Path] = []
    notes: list[str] = []
    comparisons, runs = sources.comparisons, sources.runs
    for number, comparison in enumerate(comparisons, start=1):
        name = "generators" if len(comparisons) == 1 else f"generators-{number}-{slug(comparison.name)}"
        folder = writable_folder(Path(out) / name, "the tables")
        written += _comparison(comparison, folder, notes)
    if len(comparisons) > 1:
        notes.append(
            f"the comparisons are in {len(comparisons)} folders: they differ in data, pool, centers or "
            "encoders, so their numbers do not belong in one table"
        )
    if runs:
        written += _studies(
            runs, writable_folder(Path(out) / "prompts", "the tables"), store_folder(store), top, notes
        )
    for number, run in enumerate(sources.sets, start=1):
        name = "sets" if len(sources.sets) == 1 else f"sets-{number}-{slug(run.folder.resolve().name)}"
        folder = writable_folder(Path(out) / name, "the tables")
        files, missing = write_sets_of_paper(run, folder, label=name, store=store_folder(store), top=top)
        written += files
        notes += missing
    return written, list(dict.fromkeys(notes))


def _comparison(comparison: Comparisons, folder: Path, notes: list[str]) -> list[Path]:
    merged = comparison.merged
    latex = summary_latex(merged, label=f"generators-{slug(comparison.name)}", settings=comparison.settings)
    written = [
        write_text(folder / "fid-is.csv", summary_csv(merged)),
        write_text(folder / "fid-is.tex", latex),
        write_text(folder / "all.csv", long_csv(merged)),
    ]
    for scope in merged.scopes:
        written += [
            write_text(folder / f"table-{scope.slug}.csv", table_csv(merged, scope)),
            write_text(folder / f"table-{scope.slug}.tex", table_latex(merged, scope)),
        ]
    written += write_charts(merged, folder)
    for source in comparison.folders:
        if not (source / SAMPLES).is_file():
            notes.append(f"{source / SAMPLES}: missing; compare-generators writes it")
            continue
        several = len(comparison.folders) > 1
        target = folder / (f"samples-{slug(source.resolve().name)}.png" if several else SAMPLES)
        with new_file(target) as partial:
            shutil.copyfile(source / SAMPLES, partial)
        written.append(target)
    notes += merged.notes
    return written


def _studies(
    runs: Sequence[FinishedRun], folder: Path, store: Path, top: int, notes: list[str]
) -> list[Path]:
    written = [
        write_text(folder / "prompts.csv", prompts_csv(runs)),
        write_text(folder / "prompts.tex", prompts_latex(runs, top=top)),
    ]
    written.append(save_figure(prompts_chart(runs, top=top), folder / "chart-scores.png"))
    for run in runs:
        cloud = folder / f"captions-{slug(run.folder.resolve().name)}.png"
        if write_cloud(run, cloud):
            written.append(cloud)
    if not (store / "images").is_dir():
        notes.append(
            f"{store}: no store of images there, so there are no samples of prompts; name it (--store)"
        )
        return written
    samples = folder / SAMPLES
    found, wanted = prompts_samples(runs, store, samples, top=top)
    if found:
        written.append(samples)
    if found < wanted:
        notes.append(
            f"{wanted - found} of {wanted} images for the samples are not in {store}; name the store that "
            "the studies were run with (--store)"
        )
    return written
