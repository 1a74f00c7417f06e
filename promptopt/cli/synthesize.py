"""`promptopt synthesize`: images for a whole list of prompts, named and listed as a challenge wants them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promptopt.cli._options import BatchSize, Device, Guidance, On, Scheduler, Steps
from promptopt.cli._text import say, warn
from promptopt.cli._values import run_value

if TYPE_CHECKING:
    from generators.base import Generator
    from promptopt.space.prompt_lines import PromptFile
    from promptopt.synthesis.plan import Sampling
    from promptopt.synthesis.run import Synthesis

_SHEET = 48
_LISTED = 5


def synthesize(
    prompts: Annotated[
        Path,
        typer.Option(
            callback=run_value,
            help="CSV with a column Prompt (; or ,), text with one prompt per line, JSON lines with the key "
            "prompt, or a study's prompts.json or run folder.",
        ),
    ],
    generator: Annotated[
        str, typer.Option(help="embedded, a diffusers folder, or hf:owner/name[@revision].")
    ],
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for images/, manifest.csv and sheet.png.")
    ],
    label: Annotated[
        str | None, typer.Option("--class", help="For a study of sets with several classes: which one.")
    ] = None,
    method: Annotated[
        Literal["set", "learned", "baseline", "random", "single"] | None,
        typer.Option(
            help="For a study of sets: the set's prompts (default), prompts drawn from the learned template "
            "or at random (with --total), the baseline, or the best single prompt."
        ),
    ] = None,
    per_prompt: Annotated[
        int | None, typer.Option(min=1, help="Images of each prompt. Default: 1; for gi-2025: 10.")
    ] = None,
    total: Annotated[
        int | None, typer.Option(min=1, help="Images in all, shared out by the prompts' weights.")
    ] = None,
    edition: Annotated[
        Literal["gi-2024", "gi-2025"], typer.Option(help="gi-2025 fixes names and 10 images per prompt.")
    ] = "gi-2024",
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Pattern of file names: {p} prompt, {i} image, {P} and {I} hundreds of them. Default: "
            "prompt{p:04d}_img{i:04d}.png; above 10,000 images, in folders."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Each image's own seed follows from it and its numbers.")
    ] = 0,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What the images should not show. Default: the list's own, or none.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    skip_too_long: Annotated[
        bool, typer.Option("--skip-too-long", help="Leave out prompts that the generator would cut.")
    ] = False,
    batch_size: BatchSize = None,
    store: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|URL", help="Image store to share. Default: OUT/.store."),
    ] = None,
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Make images for every prompt of a list: named by a pattern, listed in a manifest, marked as synthetic.

    Stop it any time; the same command goes on and makes no image twice. More images per prompt, or prompts
    added at the end of the list, keep what is there.
    """
    from generators.making.makers import Makers
    from promptopt.cli._progress import Bars
    from promptopt.synthesis.naming import check_pattern
    from promptopt.synthesis.prompt_files import SetDraw, read_prompt_file
    from promptopt.synthesis.run import synthesize as make

    names, per_prompt = _layout(edition, pattern, per_prompt, total, skip_too_long=skip_too_long)
    if names is not None:
        check_pattern(names, images=per_prompt if total is None else 2)
    sets = None
    if label is not None or method is not None:
        sets = SetDraw(label=label, method=method or "set", total=total, seed=seed)
    listed = read_prompt_file(prompts, sets=sets)
    _report(listed, edition)
    with Makers(on, device=device, batch_size=batch_size) as makers, Bars() as bar:
        model = makers.load(generator)
        sampling = _sampling(listed, model, negative_prompt, steps, guidance, scheduler)
        made = make(
            listed.prompts,
            model,
            out,
            per_prompt=None if total is not None else per_prompt,
            total=total,
            seed=seed,
            pattern=names,
            sampling=sampling,
            skip_too_long=skip_too_long,
            store=store,
            on_image=bar.image,
            on_warning=bar.warn,
        )
    _summary(made, _sheet(made), store)


def _layout(
    edition: str, pattern: str | None, per_prompt: int | None, total: int | None, *, skip_too_long: bool
) -> tuple[str | None, int]:
    """Pattern (None for the usual ones) and images a prompt, as the edition has them."""
    from promptopt.synthesis.naming import PATTERN

    if per_prompt is not None and total is not None:
        raise typer.BadParameter("--per-prompt and --total are both given; give one of them")
    if edition == "gi-2024":
        return pattern, per_prompt or 1
    if pattern not in (None, PATTERN) or per_prompt not in (None, 10) or total is not None:
        raise typer.BadParameter(
            f"--edition gi-2025: its script takes 10 images a prompt, named {PATTERN}; leave --pattern, "
            "--per-prompt and --total out, or take --edition gi-2024"
        )
    if skip_too_long:
        raise typer.BadParameter(
            "--edition gi-2025: its script counts 10 images for every prompt, so none may be skipped; "
            "shorten the prompts that are too long"
        )
    return PATTERN, 10


def _report(listed: "PromptFile", edition: str) -> None:
    """What is odd about the list, on stderr."""
    from promptopt.space.emphasis import emphasis_warning

    count = len(listed.prompts)
    say(f"{listed.path}: {count} prompts", err=True)
    if listed.blank:
        say(f"{len(listed.blank)} empty lines left out: line {_some(listed.blank)}", err=True)
    if warning := emphasis_warning(line.text for line in listed.prompts):
        warn(warning)
    twice = listed.duplicates()
    if twice:
        copies = sum(len(lines) - 1 for lines in twice.values())
        text, lines = max(twice.items(), key=lambda item: len(item[1]))
        say(
            f"{copies} prompts repeat an earlier one ({len(twice)} different; kept, each with own seeds); "
            f"most often line {_some(lines)}: {text!r}",
            err=True,
        )
    if edition == "gi-2025" and count % 2:
        warn(f"gi-2025 scores prompts in pairs of two wordings, and {count} is odd: the last has no partner")


def _some(numbers: "list[int] | tuple[int, ...]") -> str:
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    return ", ".join(map(str, numbers[:_LISTED])) + more


def _sampling(
    listed: "PromptFile",
    model: "Generator",
    negative_prompt: str | None,
    steps: int | None,
    guidance: float | None,
    scheduler: str | None,
) -> "Sampling":
    """The options, then what a study's prompts were found with, then the model's defaults."""
    from promptopt.synthesis.plan import Sampling

    if listed.generator is not None and listed.generator != model.fingerprint:
        warn(
            f"the prompts of {listed.path} were found with another generator "
            f"({listed.generator[:12]}), this one is {model.fingerprint[:12]}"
        )
    options = {
        "negative_prompt": negative_prompt,
        "steps": steps,
        "guidance": guidance,
        "scheduler": scheduler,
    }
    given = {key: value for key, value in options.items() if value is not None}
    taken = {key: value for key, value in listed.sampling.items() if key not in given}
    if taken:
        shown = ", ".join(f"{key} {value!r}" for key, value in taken.items())
        say(f"as in the study: {shown}", err=True)
    return Sampling(**{**taken, **given})


def _sheet(made: "Synthesis") -> Path:
    """The first images of the manifest."""
    from itertools import islice

    from promptopt.base.images import read_image
    from promptopt.formatting.pictures import Tile, contact_sheet
    from promptopt.synthesis.manifest import manifest_rows

    tiles = []
    for row in islice(manifest_rows(made.manifest), _SHEET):
        picture = read_image(made.folder / row["file"])
        numbers = f"{row['prompt_number']}.{row['image_number']}"
        tiles.append(Tile(picture, f"{numbers} {row['prompt']}"))
    title = f"{made.folder.resolve().name}: the first {len(tiles)} of {made.images} images"
    return contact_sheet([(title, tiles)], made.folder / "sheet.png", columns=8, label_lines=4)


def _summary(made: "Synthesis", sheet: Path, store: Path | None) -> None:
    from generators.stores.address import store_url
    from promptopt.formatting.numbers import file_size
    from promptopt.synthesis.folder import IMAGES

    if made.too_long:
        lines = [prompt.line for prompt in made.too_long]
        say(f"{len(lines)} prompts left out, too long for the generator: line {_some(lines)}", err=True)
    url = None if store is None else store_url(store)
    place = store or made.folder / ".store"
    disk = (
        f"and at {url}"
        if url
        else (
            f"{made.copied} of them copied out of {place}, so they lie there twice"
            if made.copied
            else f"shared with {place} by hard links, so they lie there once"
        )
    )
    say(f"{made.images} images in {made.folder / IMAGES}: {file_size(made.size)}, {disk}")
    say(f"{made.generated} generated now, {made.images - made.generated} were there")
    say(f"manifest: {made.manifest}; sheet: {sheet}")
