"""`promptopt study`: run a study, look at one, write the study file's schema."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.base.reading import one_line
from promptopt.cli import group
from promptopt.cli._options import Device, On, Store
from promptopt.cli._text import say, terminal
from promptopt.formatting.numbers import in_cell, p_value, value_and_interval

if TYPE_CHECKING:
    from promptopt.run.prompts import EstimateEntry, PromptEntry, PromptList
    from promptopt.study.run import StudyRows

_WIDE = 200  # columns of a terminal that every metric fits in
_MIDDLE = 100  # and the judge's

AllowEmbedded = Annotated[
    bool,
    typer.Option(
        "--allow-embedded", help="Let the embedded networks work on images that are not the phantom's."
    ),
]

app = group("Search for the best prompts, and look at what was found.")


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Instead of the file's search.trials.")] = None,
    name: Annotated[str | None, typer.Option(help="Instead of the file's name.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key, e.g. generator.steps=20; may be given again."
        ),
    ] = None,
    allow_embedded: AllowEmbedded = False,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    store: Store = Path("store"),
    device: Device = "auto",
    on: On = "here",
    workers: Annotated[int, typer.Option(min=1, help="Short for --on processes:N.")] = 1,
) -> None:
    """Run a study, or go on with it: the same command again resumes, and a finished one generates nothing."""
    from generators.making.place import with_workers
    from promptopt.base.settings import parse_changes
    from promptopt.cli._live import LiveStudy
    from promptopt.config.study_file import load_study

    place = with_workers(on, workers)
    config = load_study(file)
    changes = parse_changes(set_ or [])
    if allow_embedded:
        changes["allow_embedded"] = True
    if trials is not None:
        changes["search.trials"] = trials
    if name is not None:
        changes["name"] = name
    if changes:
        config = config.override(changes)
    # After the study file is read: a fault in it should show before optuna and scipy are loaded.
    from promptopt.study.run import run_study

    with LiveStudy() as live:
        run_study(config, runs=runs, store=store, device=device, on=place, observer=live)
    show(runs / config.name)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, as in study run.")
    ] = None,
    allow_embedded: AllowEmbedded = False,
    store: Store = Path("store"),
    device: Device = "auto",
) -> None:
    """Check a study, its data and its networks as a run would, and say what it will make. Makes no image."""
    from promptopt.base.settings import parse_changes
    from promptopt.config.study_file import load_study

    config = load_study(file)
    changes = parse_changes(set_ or []) | ({"allow_embedded": True} if allow_embedded else {})
    if changes:
        config = config.override(changes)
    from promptopt.study.preview import check_study

    found = check_study(config, store=store, device=device)
    for label, prompts in found.prompts.items():
        real = ", ".join(f"{pool} {count}" for pool, count in found.real_images[label].items())
        say(f"{label}: {prompts:,} prompts; real images: {real}")
    for warning in found.warnings:
        say(f"Warning: {warning}", fg="yellow", err=True)
    say(f"{config.name}: at most {found.images:,} images. No faults found.\nNext: promptopt study run {file}")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, e.g. runs/polyps.")],
) -> None:
    """Show what a run confirmed, sets or single prompts, or how far one is that is not finished."""
    from promptopt.run.folder import PROMPTS, REPORT
    from promptopt.study.run import show as read_run

    found = read_run(folder)
    if found.classes:
        from promptopt.cli._sets import print_progress, print_sets

        if found.sets is None:
            print_progress(found)
        else:
            print_sets(found.sets, folder)
        return
    if found.prompts is None:
        _print_trials(found)
        return
    _print_prompts(found.prompts)
    for file in (PROMPTS, REPORT):
        if (folder / file).is_file():
            say(f"{folder / file}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the study file, for editors."""
    import json

    from promptopt.config.study_file import json_schema

    say(json.dumps(json_schema(), indent=2))


def _print_trials(found: "StudyRows") -> None:
    from promptopt.run.trials import latest

    scored = latest(found.trials)
    say(f"{found.folder}: not finished, {len(scored)} prompts so far; the study's command goes on.")
    best = sorted(scored, key=lambda row: (-row.value, row.number))[:10]
    if best:
        say("Best by search score (optimistic: nothing is confirmed yet):")
    for row in best:
        say(f"{row.value:+.2f}  ({row.images} images)  {one_line(row.candidate.label)}")


def _print_prompts(found: "PromptList") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    scored = f"{found.prompts_scored} of {found.prompts_in_space:,} prompts scored"
    table = Table(
        title=Text(f"{found.study}: {found.category}, {scored}"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    console = terminal()
    names = [name for name in found.baseline.confirmation if name != "score"]
    if console.width < _WIDE:  # the rest is in confirmation.csv and the report
        names = [name for name in names if name == "judge_accuracy" and console.width >= _MIDDLE]
    table.add_column("rank", justify="right")
    table.add_column("prompt", overflow="fold", min_width=20)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("score (95 %)", justify="right", no_wrap=True)
    table.add_column("better?", min_width=9)
    table.add_column("p", justify="right", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for entry in found.prompts:
        measured = entry.confirmation
        plain = entry.candidate == found.baseline.candidate
        table.add_row(
            f"{entry.rank}{' =' if entry.tied_with_first and entry.rank > 1 else ''}",
            Text(entry.label + (" (baseline)" if plain else "")),
            f"{entry.weight:.2f}" if entry.weight else "-",
            "0" if plain else in_cell(measured.get("score"), "+.2f"),
            _claim(entry),
            p_value(entry.p_value, missing=""),
            *(_short(measured.get(name), percent=name == "judge_accuracy") for name in names),
        )
    console.print(table)
    console.print(
        "Score: difference from the baseline prompt on fresh seeds, in SDs of its images, with its 95 % "
        "interval; p for all prompts together (Holm). = means: tied with the first.",
        style="dim",
        markup=False,
        highlight=False,
    )
    notes = [f"Weights: {found.weights_note}."]
    if found.prompts and not found.prompts[0].weight:
        notes.append(
            "They are those of the mixture nearest to the real images, which need not hold the best score."
        )
    if found.stopped:
        notes.append(f"The search ended: {found.stopped}.")
    if found.optimism is not None and found.optimism.value is not None:
        side = "high" if found.optimism.value >= 0 else "low"
        notes.append(f"Search scores were {abs(found.optimism.value):.2f} too {side} on average.")
    console.print(" ".join(notes), style="dim", markup=False, highlight=False)


def _claim(entry: "PromptEntry") -> str:
    if entry.contradicted_by is not None:
        return f"no: {entry.contradicted_by.replace('_', ' ')} contradicts"
    if entry.p_value is None:
        return ""
    return "yes" if entry.better_than_baseline else "not shown"


def _short(estimate: "EstimateEntry | None", *, percent: bool) -> str:
    style, scale, unit = (".0f", 100, " %") if percent else (".3g", 1, "")
    return value_and_interval(estimate, style, scale=scale, unit=unit, mark="")[0] or "-"
