"""`promptopt data`: prepare, check and look at data sets."""

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli import group, prepare
from promptopt.cli._datasets import print_dataset, say_next, write_sheet
from promptopt.cli._text import say, terminal
from promptopt.cli._values import finite, finite_value
from promptopt.cli.prepare import Out

app = group("Prepare, check and look at data sets.")
app.add_typer(prepare.app, name="prepare", short_help="Make a prepared data set.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a prepared data set.")]


@app.command(short_help="Write a part of a prepared set as a set of its own.")
def select(
    folder: Folder,
    out: Out,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE=VALUE",
            help="Such as brightness=dim, or brightness=dim,dark; may be given again, and all must fit. "
            "Asked of one class alone: polyps:size=small.",
        ),
    ] = None,
    any_of: Annotated[bool, typer.Option("--any", help="One --where is enough.")] = False,
    label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Label or category; may be given again.")
    ] = None,
    center: Annotated[
        list[str] | None, typer.Option(metavar="CENTER", help="Hospital; may be given again.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help="Group; may be given again.")
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(metavar="POOL", help="reference, validation or test; may be given again."),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="Data set whose groups in validation and test are left out; may be given again.",
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Share the pools out anew by group: reference, validation and test, such as 0.3,0.2,0.5."
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            callback=finite_value,
            help="Share out validation and test anew: this part to validation; reference stays.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="POOL=N", help="At most N images of each category there, such as reference=50."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the hospital is called in the result.")] = None,
    rest: Annotated[
        str | None,
        typer.Option(help="Keep the other images too, as a second hospital of this name."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --shares and --limit.")] = 0,
) -> None:
    """Write a part of a prepared set as a set of its own, such as a target hospital; groups stay together."""
    from studies.dataset import DatasetError, read_dataset
    from studies.selection import Selection, select

    def parts(text: str, option: str) -> tuple[str, str]:
        left, equals, right = text.partition("=")
        if not equals or not left.strip() or not right.strip():
            raise DatasetError(f"{option} {text!r}: write NAME=VALUE")
        return left.strip(), right.strip()

    attributes: dict[str, list[str]] = {}
    for text in where or ():
        key, value = parts(text, "--where")
        attributes.setdefault(key, []).extend(one.strip() for one in value.split(","))
    try:
        limits = {key: int(value) for key, value in (parts(t, "--limit") for t in limit or ())}
        given = None if shares is None else tuple(finite(one) for one in shares.split(","))
        if given is not None and len(given) != 3:
            raise ValueError("three numbers are needed")
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"--shares {shares!r} --limit {limit}: {error}; write numbers") from error
    selection = Selection(
        where=attributes,
        any_of=any_of,
        labels=tuple(label or ()),
        centers=tuple(center or ()),
        groups=tuple(group or ()),
        pools=tuple(pool or ()),
        center=name,
        rest=rest,
        shares=given,
        validation=validation,
        limits=limits,
        seed=seed,
    )
    others = [read_dataset(one) for one in without or ()]
    print_dataset(select(read_dataset(folder), out, selection, without=others))
    say_next(out)


@app.command(short_help="Check a prepared data set: lines, groups, images.")
def check(
    folder: Folder,
    images: Annotated[bool, typer.Option(help="Also decode every image.")] = True,
) -> None:
    """Check a prepared data set: every line, every group, every image."""

    from studies.dataset import read_dataset

    with terminal(stderr=True).status(f"checking {folder}"):
        dataset = read_dataset(folder, verify_images=images)
    print_dataset(dataset)
    say("No faults found.")
    say_next(folder)


@app.command(short_help="Write a contact sheet: random images of each category.")
def sheet(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="PNG file to write.")],
    per_category: Annotated[int, typer.Option(min=1, help="Images of each category.")] = 10,
    tile: Annotated[int, typer.Option(min=16, help="Side of a tile in pixels.")] = 128,
    pool: Annotated[str | None, typer.Option(help="reference, validation or test; default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which images are drawn.")] = 0,
) -> None:
    """Write a contact sheet: random images of each category, with their labels."""
    write_sheet(folder, out, per_category=per_category, tile=tile, pool=pool, seed=seed)
    say(f"wrote {out}")
