"""`promptopt report`: two runs on one page."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli._options import Store
from promptopt.cli._text import say, warn
from promptopt.cli._values import run_value


def report(
    first: Annotated[
        Path,
        typer.Argument(metavar="A", callback=run_value, help="A finished run of sets, or its name in runs."),
    ],
    second: Annotated[
        Path,
        typer.Argument(metavar="B", callback=run_value, help="Another one, on the same real images."),
    ],
    out: Annotated[Path | None, typer.Option(help="The page; default: A-and-B.html.")] = None,
    store: Store = Path("store"),
) -> None:
    """Compare two runs on one page: sets side by side, shared prompts, accuracy and closeness."""
    from promptopt.study.report.sets.compared import compare_runs, write_comparison

    found = compare_runs(first, second)
    if out is None:
        out = Path(f"{first.resolve().name}-and-{second.resolve().name}.html")
    say(found.sentence, bold=True)
    for note in found.notes:
        warn(note)
    say(f"wrote {write_comparison(out, found, store=store)}")
