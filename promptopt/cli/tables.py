"""`promptopt tables`: a paper's tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli._options import Store
from promptopt.cli._text import say, warn
from promptopt.cli._values import run_value


def tables(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_OR_COMPARISON",
            callback=run_value,
            help="Run folders and folders of compare-generators.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "--output-dir", help="Folder for the tables and figures.")],
    store: Store = Path("store"),
    top: Annotated[int, typer.Option(min=1, help="Prompts of a study in LaTeX, chart and samples.")] = 5,
) -> None:
    """Write the tables (CSV, LaTeX) and figures (PNG) of a paper, from what finished runs have recorded.

    From comparisons: FID and IS by generator and center, every table of theirs, charts, samples. From
    studies: the confirmed prompts by category with a chart and samples, and the words of the captions as a
    cloud; from studies of sets: each class's set, every method compared with it, a chart and samples.
    Nothing is measured anew.
    """
    from promptopt.export.paper.sources import read_sources
    from promptopt.export.paper.writing import write_tables

    written, notes = write_tables(read_sources(sources), out, store=store, top=top)
    for path in written:
        say(str(path))
    for note in notes:
        warn(note)
