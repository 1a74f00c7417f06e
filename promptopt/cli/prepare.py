"""`promptopt data prepare`: folders, Hugging Face sets, the challenge's files or the phantom, made ready."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptopt.cli import group
from promptopt.cli._datasets import print_dataset, say_next, write_sheet
from promptopt.cli._text import say, terminal, warn

if TYPE_CHECKING:
    from studies.folders import Found

app = group("Make a prepared data set (images + metadata.jsonl).")

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the prepared data set to.")]

Prompt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Caption of images that have none; {label} is the class; may be given again. Default: "
        "'an image of {label}'.",
    ),
]
NoCaptions = Annotated[
    bool, typer.Option("--no-captions", help="Ignore the images' own captions; use --prompt for all.")
]
AnyLanguage = Annotated[
    bool, typer.Option("--any-language", help="Accept captions that do not seem to be English.")
]
GroupRegex = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="The part of an image's path that names the patient, such as '(patient\\d+)'; a patient stays "
        "in one pool.",
    ),
]
CenterRegex = Annotated[
    str | None, typer.Option(metavar="REGEX", help="The part of an image's path that names the hospital.")
]
Center = Annotated[str, typer.Option(help="Hospital of the images for which none is known.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides which group goes into which pool.")]


@app.command("folders", short_help="Prepare your own images, a folder for each class.")
def folders(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with a folder for each class.")],
    out: Out,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Table with file_name (path inside DIR) and label, or text, group, center; the classes are "
            "then those of its column label.",
        ),
    ] = None,
    prompt: Prompt = None,
    no_captions: NoCaptions = False,
    any_language: AnyLanguage = False,
    group_regex: GroupRegex = None,
    center_regex: CenterRegex = None,
    center_folders: Annotated[
        bool, typer.Option("--center-folders", help="The folders are DIR/CENTER/CLASS.")
    ] = False,
    center: Center = "unknown",
    seed: Seed = 0,
) -> None:
    """Prepare your own images, a folder for each class, with captions from .txt files beside them, if any."""
    from promptopt.base.files import file_digest
    from studies.folders import find_pictures

    found = find_pictures(
        source,
        labels=labels,
        group_regex=group_regex,
        center_regex=center_regex,
        center_folders=center_folders,
    )
    _prepare(
        found,
        out,
        source=source,
        name=source.resolve().name,
        prompt=prompt,
        no_captions=no_captions,
        any_language=any_language,
        center=center,
        seed=seed,
        settings={
            "labels": file_digest(labels) if labels is not None else None,
            "group_regex": group_regex,
            "center_regex": center_regex,
            "center_folders": center_folders,
            "no_captions": no_captions,
        },
    )


@app.command("imagefolder", short_help="Prepare a Hugging Face data set of images.")
def imagefolder(
    source: Annotated[
        str, typer.Argument(metavar="DIR|hf:OWNER/NAME", help="An imagefolder, or a data set on the hub.")
    ],
    out: Out,
    split: Annotated[str | None, typer.Option(help="One split alone; default: all, shared out anew.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Default: the first with images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Default: label, class or category.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Default: text, caption or prompt.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Default: group, patient or patient_id.")] = None,
    center_column: Annotated[str | None, typer.Option(help="Default: center.")] = None,
    prompt: Prompt = None,
    no_captions: NoCaptions = False,
    any_language: AnyLanguage = False,
    center: Center = "unknown",
    seed: Seed = 0,
) -> None:
    """Prepare a Hugging Face data set of images; needs the extra promptopt[datasets]."""
    from studies.folders import open_imagefolder

    columns = {
        "image_column": image_column,
        "label_column": label_column,
        "text_column": text_column,
        "group_column": group_column,
        "center_column": center_column,
    }
    with open_imagefolder(source, split=split, **columns) as found:
        _prepare(
            found,
            out,
            source=None if source.startswith("hf:") else Path(source),
            name=source if source.startswith("hf:") else Path(source).resolve().name,
            prompt=prompt,
            no_captions=no_captions,
            any_language=any_language,
            center=center,
            seed=seed,
            settings={"split": split, **columns, "no_captions": no_captions},
        )


@app.command("medvqa-gi-2024", short_help="Prepare the layout of MEDVQA-GI 2024.")
def medvqa_gi_2024(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The challenge's folder: images/ and prompt-gt.csv.")
    ],
    out: Out,
    center: Annotated[str, typer.Option(help="Hospital of the images for which none is listed.")] = "unknown",
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
            on_progress=lambda done, total: bar.show("images checked", done, total),
        )
    _print_rows(report.rows())
    say(f"wrote {out}")
    say_next(out)


@app.command("phantom", short_help="Draw the phantom: scenes whose truth is known.")
def phantom(
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="Number of images; of each label, with --hospital.")],
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
    size: Annotated[int, typer.Option(min=16, help="Side of an image in pixels.")] = 64,
    hospital: Annotated[
        str | None, typer.Option(help="home, coast, summit, delta or valley: where the images come from.")
    ] = None,
    test: Annotated[int, typer.Option(min=1, help="With --hospital: test images of each label.")] = 300,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
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
            on_progress=lambda done: bar.show("images", done, total),
        )
    print_dataset(dataset)
    say_next(out)


def _prepare(
    found: "Sequence[Found]",
    out: Path,
    *,
    prompt: Sequence[str] | None,
    no_captions: bool,
    settings: Mapping[str, Any],
    **options: Any,
) -> None:
    """What both kinds of sources share: the data set, its report, its contact sheet, what is next."""
    from dataclasses import replace

    from promptopt.cli._progress import Bars
    from studies.dataset import read_dataset
    from studies.folders import prepare_found

    if no_captions:
        found = [replace(one, captions=()) for one in found]
    if prompt:
        options["prompts"] = prompt
    with Bars() as bar:
        report = prepare_found(
            found,
            out,
            settings=settings,
            on_progress=lambda done, total: bar.show("images checked", done, total),
            **options,
        )
    _print_rows(report.rows())
    print_dataset(read_dataset(out))
    for warning in report.warnings():
        warn(warning)
    sheet = out.with_name(f"{out.name}-sheet.png")
    write_sheet(out, sheet, per_category=10)
    say(f"wrote {out} and {sheet}: look at the sheet first")
    say_next(out)


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("found", title="Prepared", title_justify="left")
    table.add_column("number", justify="right")
    for name, number in rows:
        table.add_row(Text(name), number)
    terminal().print(table)
