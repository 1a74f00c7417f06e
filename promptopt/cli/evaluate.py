"""`promptopt evaluate`: any two sets of images, measured."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import AllowEmbedded, Device, Store
from promptopt.cli._text import say, terminal, warn
from promptopt.formatting.numbers import value_and_interval

if TYPE_CHECKING:
    from evaluation.features.image_set import ImageSet
    from evaluation.report.evaluate import Evaluation

_STYLES = {"ok": "green", "unreliable": "yellow", "undefined": "red"}


def evaluate(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="Real images: a prepared data set, or a folder of images.")
    ],
    generated: Annotated[Path, typer.Argument(metavar="GENERATED", help="Generated images: likewise.")],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENCODER",
            help="embedded, inception[:FILE], a folder, open_clip:MODEL/TAG, hf:owner/name, "
            "timm:NAME[@FILE], torchvision:NAME@FILE, transformers:ADDRESS or dinov2:ADDRESS; may be given "
            "again. Default: embedded.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Any of fd, kid, mmd, is, alignment, diversity, duplicates, memorization and classifier, "
            "with commas between; default: all that the encoders and the sets allow."
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Also for each category, each center, or both: category,center.")
    ] = "",
    cross: Annotated[
        bool, typer.Option("--cross", help="With --by category,center: each category in each center.")
    ] = False,
    second_encoder: Annotated[
        str | None,
        typer.Option(help="A second family (address as for --encoder): all metrics in it too, and the gap."),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            help="Real images that the generator was trained on, for memorization and classifier. Default: "
            "the pool reference of REAL; its other pools are then the images never seen."
        ),
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Pools of the real prepared set, such as test.")] = None,
    category: Annotated[
        str | None, typer.Option(help="What the generated images show, where their folder does not say it.")
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Category file with the texts for alignment; default: the shipped categories.",
        ),
    ] = None,
    allow_uncalibrated: Annotated[
        bool,
        typer.Option(
            "--allow-uncalibrated", help="Report alignment even by an encoder that fails on the real images."
        ),
    ] = False,
    allow_weak_encoder: Annotated[
        bool,
        typer.Option(
            "--allow-weak-encoder",
            help="Measure by an encoder that knows the real images worse than 8x8 thumbnails do; unreliable.",
        ),
    ] = False,
    allow_embedded: AllowEmbedded = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output-dir",
            help="Folder for evaluation.json, evaluation.csv, card.md, copies.png and duplicates.png.",
        ),
    ] = None,
    store: Store = Path("store"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of every shuffle and subsample.")] = 0,
    device: Device = "auto",
) -> None:
    """Measure generated images against real ones, with intervals, a status and a metric card."""
    from evaluation.encoders.load import load_encoder
    from evaluation.features.feature_store import FeatureStore
    from evaluation.features.image_set import read_image_set
    from evaluation.report.evaluate import NAMES, EvaluationError
    from evaluation.report.evaluate import evaluate as measure
    from promptopt.cli._progress import Bars
    from promptopt.study.checks import fixed_texts
    from promptopt.study.guards import refuse_embedded_encoders
    from studies.category import CATEGORIES, load_category

    names = _list(metrics)
    for name in names:  # before any model is loaded
        if name not in NAMES:
            raise EvaluationError(f"metric {name!r} does not exist; use {', '.join(NAMES)}")
    sets = (
        read_image_set(real, pool=_list(pool) or None),
        read_image_set(generated, category=category),
    )
    trained, unseen = _pools(real, training)
    own = [
        load_category(Path(place) if place.endswith((".yaml", ".yml")) else place)
        for place in texts or CATEGORIES
    ]
    classes = {c.name: fixed_texts(c) for c in own}
    uris = encoder or ["embedded"]
    named = {"--encoder": uris, "--second-encoder": [second_encoder] if second_encoder else []}
    refuse_embedded_encoders(named, real, allowed=allow_embedded)
    encoders = [load_encoder(uri, device=device) for uri in uris]
    second = None if second_encoder is None else load_encoder(second_encoder, device=device)
    with Bars() as bar:
        result = measure(
            *sets,
            encoders,
            store=FeatureStore(store / "features"),
            metrics=names or None,
            by=_list(by),
            cross=cross,
            second=second,
            training=trained,
            held_out=unseen,
            texts=classes,
            allow_uncalibrated=allow_uncalibrated,
            allow_weak_encoder=allow_weak_encoder,
            seed=seed,
            on_progress=bar.show,
        )
    _print(result)
    if out is not None:
        _save(result, out)


def _pools(real: Path, training: Path | None) -> "tuple[ImageSet | None, ImageSet | None]":
    """Real images that the generator was trained on, and others; None where nobody says which."""
    from evaluation.features.image_set import read_image_set

    whole = read_image_set(real)
    trained = whole.of_pools("reference") if training is None else read_image_set(training)
    if training is not None and trained.pools:
        trained = trained.of_pools("reference")
    unseen = whole.of_pools("validation", "test") if whole.pools else whole
    return (trained, unseen) if len(trained) and len(unseen) else (None, None)


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _save(result: "Evaluation", out: Path) -> None:
    from promptopt.base.files import writable_folder, write_text

    writable_folder(out, "the evaluation")
    for name, text in (
        ("evaluation.json", result.to_json()),
        ("evaluation.csv", _table(result)),
        ("card.md", result.card_markdown()),
    ):
        say(f"wrote {write_text(out / name, text)}")
    for path in _pictures(result, out):
        say(f"wrote {path}")


def _table(result: "Evaluation") -> str:
    from promptopt.formatting.tables import csv_table

    heads = [field.name for field in fields(result.rows[0]) if field.name != "estimate"]
    rows = [[getattr(row, name) for name in heads] for row in result.rows]
    return csv_table(heads, rows, [{"": row.estimate} for row in result.rows], exact=True)


def _pictures(result: "Evaluation", out: Path) -> list[Path]:
    """Sheets of copies and of duplicates; one of an earlier run is taken away where there is none now."""
    from promptopt.formatting.copies import clusters_sheet, copies_sheet
    from promptopt.formatting.pictures import save_png

    written = []
    for name, sheet in (
        ("copies.png", copies_sheet(result.copies) if result.copies else None),
        ("duplicates.png", clusters_sheet(result.duplicates) if result.duplicates else None),
    ):
        (out / name).unlink(missing_ok=True)
        if sheet is not None:
            written.append(save_png(sheet, out / name))
    return written


def _print(result: "Evaluation") -> None:
    from rich.table import Table
    from rich.text import Text

    console = terminal()
    for part in dict.fromkeys(row.part for row in result.rows):
        rows = [row for row in result.rows if row.part == part]
        title = f"{part}: {rows[0].n_real} real, {rows[0].n_generated} generated"
        table = Table(title=title, title_justify="left")
        table.add_column("metric")
        for column in ("value", "95 % interval", "n"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("better", no_wrap=True)
        table.add_column("status", no_wrap=True)
        for row in rows:
            e = row.estimate
            value, interval = value_and_interval(e, ".4g", mark="")
            status = Text(e.status, style=_STYLES[e.status])
            table.add_row(Text(row.name), value, interval, str(e.n), row.better, status)
        console.print(table)
        for row in rows:
            if row.estimate.status == "undefined":
                console.print(Text(f"{row.name} is undefined. {row.estimate.method}"), soft_wrap=True)
    for warning in result.card["warnings"]:
        warn(warning)
