"""`promptopt data`: prepare, check and look at data sets."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli import group, prepare
from promptopt.cli._datasets import print_dataset, write_sheet
from promptopt.cli._text import say, terminal

app = group("Prepare, check and look at data sets.")
app.add_typer(prepare.app, name="prepare")

Folder = Annotated[Path, typer.Argument(help="Folder of a prepared data set.")]


@app.command()
def check(
    folder: Folder,
    images: Annotated[bool, typer.Option(help="Also decode every picture.")] = True,
) -> None:
    """Check a prepared data set: every line, every group, every picture."""

    from studies.dataset import read_dataset

    with terminal(stderr=True).status(f"checking {folder}"):
        dataset = read_dataset(folder, verify_images=images)
    print_dataset(dataset)
    say("No faults found.")


@app.command()
def sheet(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="PNG file to write.")],
    per_category: Annotated[int, typer.Option(min=1, help="Pictures of each category.")] = 10,
    tile: Annotated[int, typer.Option(min=16, help="Side of a tile in pixels.")] = 128,
    pool: Annotated[str | None, typer.Option(help="reference, validation or test; default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which pictures are drawn.")] = 0,
) -> None:
    """Write a contact sheet: random pictures of each category, with their labels."""
    write_sheet(folder, out, per_category=per_category, tile=tile, pool=pool, seed=seed)
    say(f"wrote {out}")
