"""`promptopt export`: the best-prompt list, submissions, and a look at one before it goes out."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from promptopt.cli import group
from promptopt.cli._options import Device, Store
from promptopt.cli._text import say, warn
from promptopt.cli._values import run_value
from promptopt.cli._wrapped import wrapped
from promptopt.formatting.numbers import count

app = group("Hand over what studies found: lists, challenge submissions, and a check of them.")

_Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN", callback=run_value, help="Finished run folders, e.g. runs/polyps."),
]


@app.command("list", short_help="Write the best prompts of runs, by category.")
def list_(
    runs: _Runs,
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for best-prompts.json, .csv, .md and .tex.")
    ],
    format_: Annotated[
        str, typer.Option("--format", help="Any of json, csv, md and latex, with commas between.")
    ] = "json,csv,md,latex",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write the best prompts of the runs by category: weights, confirmed metrics, ties, settings, seeds."""
    from promptopt.export.best_files import write_best_list
    from promptopt.run.finished import read_runs

    formats = [name.strip() for name in format_.split(",") if name.strip()]
    for path in write_best_list(read_runs(runs), out, formats=formats, force=force):
        say(str(path))


@app.command()
def schema() -> None:
    """Print the JSON schema of best-prompts.json."""
    import json

    from promptopt.export.best import BestList

    say(json.dumps(BestList.model_json_schema(), indent=2))


@app.command(short_help="Write a challenge submission, and check it.")
def submission(
    runs: _Runs,
    edition: Annotated[Literal["gi-2024", "gi-2025"], typer.Option(help="Edition of MEDVQA-GI.")],
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder to write; it appears whole or not at all.")
    ],
    weights: Annotated[
        Literal["copy", "reference"] | None,
        typer.Option(
            help="Copy the weights, or name them on the hub. Default: name them if they are on the hub."
        ),
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="Address of the runs' generator, where it has moved.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="gi-2024: images of each prompt.")] = 4,
    images: Annotated[
        Path | None, typer.Option(help="gi-2024: what `promptopt synthesize` made, as the synthesis part.")
    ] = None,
    test_prompts: Annotated[
        Path | None, typer.Option(help="gi-2024: instead of --images, a list of prompts to make it from now.")
    ] = None,
    per_prompt: Annotated[int, typer.Option(min=1, help="gi-2024: images of each of --test-prompts.")] = 1,
    partial: Annotated[
        bool, typer.Option("--partial", help="gi-2024: go on without a run of every category.")
    ] = False,
    template: Annotated[
        Path | None,
        typer.Option(help="gi-2025: the organizers' submission_task2.py. Default: the installed medvqa's."),
    ] = None,
    repo: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="gi-2025: the hub repository that it will be.")
    ] = None,
    info: Annotated[
        Path | None, typer.Option(help="YAML with Team_Name and the like; gi-2025 needs it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="gi-2025: seed of the script's images.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="gi-2025: images the script makes at a time.")] = 8,
    store: Store = Path("store"),
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a submission that is there.")] = False,
) -> None:
    """Write a submission folder: prompts, model, example images, README, checksums; then check it.

    gi-2024: a folder for each category and the image synthesis part. gi-2025: the organizers' script with its
    two editable sections filled, to be uploaded as the repository --repo. Nothing is sent anywhere.
    """
    from promptopt.challenge.submission.team import read_team
    from promptopt.run.finished import read_runs

    found = read_runs(runs)
    team = {} if info is None else read_team(info)
    if edition == "gi-2024":
        _gi2024_alone(repo=repo, template=template)
        if test_prompts is not None and images is None:  # both are refused below
            from promptopt.space.emphasis import emphasis_warning
            from promptopt.synthesis.prompt_files import read_prompt_file

            if warning := emphasis_warning(line.text for line in read_prompt_file(test_prompts).prompts):
                warn(warning)
        from generators.loading import load
        from promptopt.challenge.submission.gi2024 import write_gi2024
        from promptopt.cli._progress import Bars

        with Bars() as bar:
            write_gi2024(
                found,
                out,
                store=store,
                load=lambda uri: load(uri, device=device),
                weights=weights,
                generator=generator,
                examples=examples,
                images=images,
                test_prompts=test_prompts,
                per_prompt=per_prompt,
                partial=partial,
                team=team,
                force=force,
                on_image=bar.image,
            )
    else:
        _gi2025_alone(images=images, test_prompts=test_prompts, partial=partial)
        from promptopt.challenge.submission.gi2025 import write_gi2025

        write_gi2025(
            found,
            out,
            template=template,
            repository=repo,
            team=team,
            weights=weights,
            generator=generator,
            seed=seed,
            batch_size=batch_size,
            force=force,
        )
    say(f"{out}: check it before it goes out: promptopt export check {shlex.quote(str(out))}")


def _gi2024_alone(**options: object) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(f"--{given[0]} is of --edition gi-2025; leave it out")


def _gi2025_alone(*, images: Path | None, test_prompts: Path | None, partial: bool) -> None:
    if images is not None or test_prompts is not None:
        raise typer.BadParameter(
            "gi-2025: its script makes the images when it is run, so none are submitted; to look at some "
            "first: promptopt synthesize --edition gi-2025"
        )
    if partial:
        raise typer.BadParameter("--partial is of --edition gi-2024; gi-2025 has no categories")


@app.command(short_help="Check a submission before it goes out.")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A submission, or what `synthesize` made.")],
    edition: Annotated[
        Literal["auto", "gi-2024", "gi-2025"], typer.Option(help="Default: by what is in the folder.")
    ] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="Folder of real images, none of which may be in there.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="gi-2025: the organizers' script. Default: the installed medvqa's.")
    ] = None,
    write_checksums: Annotated[
        bool, typer.Option("--write-checksums", help="Write SHA256SUMS anew first.")
    ] = False,
) -> None:
    """Look through a submission before it goes out. Nothing is sent.

    Prints a line for each fault, with the file and the remedy. Exit code 1 means errors, 0 at most warnings.
    """
    from promptopt.challenge.check.run import check_submission

    found = check_submission(
        folder, edition=edition, data=data, template=template, rewrite_checksums=write_checksums
    )
    for finding in found:
        color = typer.colors.RED if finding.level == "error" else typer.colors.YELLOW
        level, rest = "\n".join(wrapped(str(finding), indent=2)).split(":", 1)
        say(rest, title=f"{level}:", fg=color, bold=True)
    say(f"{folder}: {count(found.errors, 'error')}, {count(found.warnings, 'warning')}")
    if found.errors:
        raise typer.Exit(1)
