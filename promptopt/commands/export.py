"""`promptopt export`: the best-prompt list, submissions, and a look at one before it goes out."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.commands import group

app = group("Hand over what studies found: lists, challenge submissions, and a check of them.")

_Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Finished run folders, e.g. runs/polyps.")
]


@app.command("list")
def list_(
    runs: _Runs,
    out: Annotated[Path, typer.Option(help="Folder for best-prompts.json, .csv, .md and .tex.")],
    format_: Annotated[
        str, typer.Option("--format", help="Of json, csv, md and latex, with commas between.")
    ] = "json,csv,md,latex",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write the best prompts of the runs by category: weights, confirmed metrics, ties, settings, seeds."""
    from promptopt.export.best_files import write_best_list
    from promptopt.export.runs import read_runs

    formats = [name.strip() for name in format_.split(",") if name.strip()]
    for path in write_best_list(read_runs(runs), out, formats=formats, force=force):
        typer.echo(str(path))


@app.command()
def schema() -> None:
    """Print the JSON schema of best-prompts.json."""
    import json

    from promptopt.export.best import BestList

    typer.echo(json.dumps(BestList.model_json_schema(), indent=2))
