"""`promptopt data`: prepare, check and look at data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli import group

if TYPE_CHECKING:
    from studies.dataset import Dataset
    from studies.medvqa_gi import PrepareReport

app = group("Prepare, check and look at data sets.")
prepare = group("Make a prepared data set (pictures + metadata.jsonl).")
app.add_typer(prepare, name="prepare")

Folder = Annotated[Path, typer.Argument(help="Folder of a prepared data set.")]
Out = Annotated[Path, typer.Argument(help="Folder to write the prepared data set to.")]


@prepare.command("medvqa-gi-2024")
def medvqa_gi_2024(
    source: Annotated[Path, typer.Argument(help="The challenge's folder: images/ and prompt-gt.csv.")],
    out: Out,
    center: Annotated[
        str, typer.Option(help="Hospital of the pictures for which none is listed.")
    ] = "unknown",
    seed: Annotated[int, typer.Option(min=0, help="Decides which group goes into which pool.")] = 0,
    grammar: Annotated[
        Path | None,
        typer.Option(help="YAML: which words of captions, or measures of pixels, become which attributes."),
    ] = None,
) -> None:
    """Prepare the MEDVQA-GI 2024 layout: groups near-duplicates and assigns pools by group."""
    from promptopt.cli._progress import Bars
    from studies.grammar import load_grammar
    from studies.medvqa_gi import prepare_2024

    with Bars() as bar:
        report = prepare_2024(
            source,
            out,
            center=center,
            seed=seed,
            grammar=None if grammar is None else load_grammar(grammar),
            on_progress=lambda done, total: bar.show("pictures checked", done, total),
        )
    _print_report(report)
    typer.echo(f"wrote {out}")


@prepare.command("phantom")
def phantom(
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="Number of pictures; of each label, with --hospital.")],
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    size: Annotated[int, typer.Option(min=16, help="Side of a picture in pixels.")] = 64,
    hospital: Annotated[
        str | None, typer.Option(help="home, coast, summit, delta or valley: where the pictures come from.")
    ] = None,
    test: Annotated[int, typer.Option(min=1, help="With --hospital: test pictures of each label.")] = 300,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Render the phantom: procedural gastrointestinal scenes whose truth is known."""
    from promptopt.cli._progress import Bars
    from studies.phantom import HOSPITALS, write_phantom

    total = len(HOSPITALS[hospital].labels) * (images + test) if hospital in HOSPITALS else images
    with Bars() as bar:
        dataset = write_phantom(
            out,
            images=images,
            seed=seed,
            size=size,
            hospital=hospital,
            test=test,
            workers=workers,
            on_progress=lambda done: bar.show("pictures", done, total),
        )
    _print_dataset(dataset)


@app.command()
def select(
    folder: Folder,
    out: Out,
    where: Annotated[
        list[str] | None,
        typer.Option(help="ATTRIBUTE=VALUE[,VALUE], as brightness=dim; again for more, which must all fit."),
    ] = None,
    any_of: Annotated[bool, typer.Option("--any", help="One --where is enough.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="Label or category; again for more.")] = None,
    center: Annotated[list[str] | None, typer.Option(help="Hospital; again for more.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Group; again for more.")] = None,
    pool: Annotated[list[str] | None, typer.Option(help="reference, validation or test.")] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(help="Data set whose groups in validation and test are left out; again for more."),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(help="Share the pools out anew by group: reference,validation,test, as 0.3,0.2,0.5."),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share out validation and test anew: this part to validation; reference stays."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="POOL=N: at most N pictures of each category there, as reference=50."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the hospital is called in the result.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --shares and --limit.")] = 0,
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
        given = None if shares is None else tuple(float(one) for one in shares.split(","))
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
        shares=given,  # type: ignore[arg-type]
        validation=validation,
        limits=limits,
        seed=seed,
    )
    others = [read_dataset(one) for one in without or ()]
    _print_dataset(select(read_dataset(folder), out, selection, without=others))


@app.command()
def check(
    folder: Folder,
    images: Annotated[bool, typer.Option(help="Also decode every picture.")] = True,
) -> None:
    """Check a prepared data set: every line, every group, every picture."""
    from rich.console import Console

    from studies.dataset import read_dataset

    with Console(stderr=True).status(f"checking {folder}"):
        dataset = read_dataset(folder, verify_images=images)
    _print_dataset(dataset)
    typer.echo("No faults found.")


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
    import numpy as np

    from promptopt.base.images import read_image
    from promptopt.formatting.pictures import Tile, contact_sheet
    from studies.dataset import DatasetError, read_dataset

    dataset = read_dataset(folder)
    if pool is not None:
        dataset = dataset.where(pool=pool)
    if not len(dataset):
        raise DatasetError(f"{folder}: no picture{f' in pool {pool}' if pool else ''} to show")
    rng = np.random.default_rng(seed)
    rows = []
    for category in sorted({record.category for record in dataset}):
        records = dataset.where(category=category).records
        drawn = rng.choice(len(records), size=min(per_category, len(records)), replace=False)
        tiles = []
        for index in drawn:
            record = records[int(index)]
            tiles.append(Tile(read_image(dataset.path(record)), f"{record.label} · {record.pool}"))
        rows.append((f"{category}: {len(tiles)} of {len(records)}", tiles))
    contact_sheet(rows, out, tile=tile)
    typer.echo(f"wrote {out}")


def _print_report(report: "PrepareReport") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("found", title="Prepared", title_justify="left")
    table.add_column("number", justify="right")
    for name, number in report.rows():
        table.add_row(Text(name), number)
    Console().print(table)


def _print_dataset(dataset: "Dataset") -> None:
    from collections import Counter

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from promptopt.base.reading import one_line
    from studies.dataset import POOLS, metadata_file

    counts: Counter[tuple[str, str]] = Counter((record.category, record.pool) for record in dataset)
    groups = {category: {r.group for r in dataset if r.category == category} for category, _ in counts}
    typer.echo(f"{len(dataset)} pictures in {metadata_file(dataset.root)}")
    table = Table(title=Text(str(dataset.root)), title_justify="left")
    table.add_column("category")
    for pool in (*POOLS, "all", "groups"):
        table.add_column(pool, justify="right")
    for category in sorted(groups):
        numbers = [counts[category, pool] for pool in POOLS]
        table.add_row(Text(one_line(category)), *map(str, [*numbers, sum(numbers), len(groups[category])]))
    totals = [sum(counts[category, pool] for category in groups) for pool in POOLS]
    table.add_section()
    table.add_row("all", *map(str, [*totals, sum(totals), len({r.group for r in dataset})]))
    centers = Counter(record.center for record in dataset)
    labels = Counter(record.label for record in dataset)
    console = Console()
    console.print(table)
    if not dataset.pooled:
        typer.echo(
            f"{metadata_file(dataset.root)} names no pools: training takes all pictures, "
            "a study shares them out."
        )
    for name, counter in (("centers", centers), ("labels", labels)):
        shown = ", ".join(f"{one_line(value)} {count}" for value, count in counter.most_common(30))
        more = f" and {len(counter) - 30} more" if len(counter) > 30 else ""
        console.print(f"{name}: {shown}{more}", markup=False, highlight=False)
