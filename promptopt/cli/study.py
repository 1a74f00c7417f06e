"""`promptopt study`: run a study, look at one, write the study file's schema."""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.base.reading import one_line
from promptopt.cli import group
from promptopt.cli._options import AllowEmbedded, Device, Guidance, On, Publish, Steps, Store
from promptopt.cli._text import say, terminal, warn
from promptopt.cli._values import run_value
from promptopt.formatting.numbers import in_cell, p_value, value_and_interval

if TYPE_CHECKING:
    from promptopt.run.prompts import EstimateEntry, PromptEntry, PromptList
    from promptopt.study.observer import Observer
    from promptopt.study.run import StudyRows

_WIDE = 200  # columns of a terminal that every metric fits in
_MIDDLE = 100  # and the judge's

app = group("Search for the best prompts, and look at what was found.")


@app.command(short_help="Run a study, or go on with one.")
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
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the file's seed.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    allow_embedded: AllowEmbedded = False,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    store: Store = Path("store"),
    device: Device = "auto",
    tracker: Annotated[
        str | None, typer.Option(help="tensorboard (into RUN/tensorboard), wandb or mlflow.")
    ] = None,
    on: On = "here",
    workers: Annotated[int, typer.Option(min=1, help="Short for --on processes:N.")] = 1,
    publish: Publish = None,
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
    named = {
        "search.trials": trials,
        "name": name,
        "seed": seed,
        "generator.steps": steps,
        "generator.guidance": guidance,
    }
    changes |= {key: value for key, value in named.items() if value is not None}
    if changes:
        config = config.override(changes)
    # After the study file is read: a fault in it should show before optuna and scipy are loaded.
    from promptopt.study.run import run_study

    with LiveStudy() as live, _watched(tracker, publish, runs / config.name, live) as observer:
        run_study(config, runs=runs, store=store, device=device, on=place, observer=observer)
    show(runs / config.name)


@contextmanager
def _watched(name: str | None, publish: str | None, folder: Path, live: "Observer") -> "Iterator[Observer]":
    """The live display, and with it what sends the numbers to a tracker and the trials to a database."""
    from promptopt.study.observer import Observers

    observers: list[Observer] = [live]
    with ExitStack() as stack:
        if name is not None:
            from promptopt.base.trackers import tracker
            from promptopt.study.tracking import Tracking

            found = stack.enter_context(closing(tracker(name, folder=folder / name, run=folder.name)))
            observers.append(Tracking(found))
        if publish is not None:
            from promptopt.publishing.observer import Publishing
            from promptopt.publishing.publisher import check_publishing

            target = check_publishing(publish)
            observers.append(stack.enter_context(Publishing(folder, target, on_trouble=live.on_warning)))
        yield live if len(observers) == 1 else Observers(*observers)


@app.command(short_help="Check a study as a run would; makes no image.")
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
    from promptopt.cli._progress import Bars
    from promptopt.study.preview import check_study

    with Bars(transient=True) as bars:
        bars.busy("checking the study, its data and its models")
        found = check_study(config, store=store, device=device)
    for label, prompts in found.prompts.items():
        real = ", ".join(f"{pool} {count}" for pool, count in found.real_images[label].items())
        real = real if config.data is not None else "none"
        say(f"{label}: {prompts:,} prompts; real images: {real}")
    for warning in found.warnings:
        warn(warning)
    if config.search.proposals_per_step == "auto":
        say("search.proposals_per_step: auto: a prompt for each worker of --on, 2 to 16 at a time")
    say(f"{config.name}: at most {found.images:,} images. No faults found.")
    say(f"Next: promptopt study run {shlex.quote(str(file))}")


@app.command(short_help="Show what a run confirmed, or how far it is.")
def show(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", callback=run_value, help="A run folder, or the name of one in runs."),
    ],
) -> None:
    """Show what a run confirmed, sets or single prompts, or how far an unfinished one is."""
    from promptopt.run.folder import PROMPTS, REPORT, STUDY
    from promptopt.study.run import show as read_run

    found = read_run(folder)
    if found.classes:
        from promptopt.cli._sets import print_progress, print_sets

        if found.sets is None:
            print_progress(found)
            _go_on(folder / STUDY)
        else:
            print_sets(found.sets, folder)
        return
    if found.prompts is None:
        _print_trials(found)
        _go_on(folder / STUDY)
        return
    _print_prompts(found.prompts)
    for file in (PROMPTS, REPORT):
        if (folder / file).is_file():
            say(f"{folder / file}")
    given, work = str(folder), f"work/{found.prompts.study}"
    say("\nNext:")
    for words in (
        f"review prefer {shlex.quote(given)} --rater NAME",
        f"synthesize --prompts {shlex.quote(given)} --generator {shlex.quote(found.prompts.generator.uri)} "
        f"--total 100 --out {work}-images",
    ):
        say(f"  promptopt {words}")


def _go_on(study: Path) -> None:
    if study.is_file():
        given = shlex.join([str(study), "--runs", str(study.parent.parent)])
        say(f"Next: promptopt study run {given}")


@app.command("list", short_help="List the runs of a folder.")
def list_(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder of run folders.")] = Path("runs"),
) -> None:
    """List the runs of a folder: name, aim, how far it is, and what it ended with."""
    from rich.text import Text

    from promptopt.cli._sets import plain_table
    from promptopt.study.listing import list_runs

    rows = list_runs(runs)
    table = plain_table(f"{runs}: {len(rows)} run{'' if len(rows) == 1 else 's'}")
    for name in ("name", "aim", "state", "result"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(Text(row.name), row.aim, Text(row.state), Text(one_line(row.sentence)))
    terminal(highlight=False).print(table)
    first = rows[0].name if runs == Path("runs") else str(runs / rows[0].name)
    say(f"Next: promptopt study show {shlex.quote(first)}")


@app.command(short_help="Compare runs in a table.")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", callback=run_value, help="Two finished runs or more."),
    ],
) -> None:
    """Compare runs in a table: what each searched with, what it found, and the settings that differ."""
    from rich.text import Text

    from promptopt.cli._sets import plain_table
    from promptopt.study.listing import compare_runs

    if len(runs) < 2:
        raise typer.BadParameter("give two runs or more; one is shown by `promptopt study show`")
    found = compare_runs(runs)
    table = plain_table("Runs side by side")
    table.add_column("", overflow="fold")
    for name in found.names:
        table.add_column(Text(name), overflow="fold")
    for what, values in found.rows:
        table.add_row(Text(what), *(Text(value) for value in values))
    terminal(highlight=False).print(table)
    if found.same_data and found.of_sets and len(runs) == 2:
        say(f"Next: promptopt report {shlex.join(map(str, runs))}")
    if not found.same_data:
        warn("the runs have different real images, so their numbers cannot be compared")


@app.command(short_help="Print the JSON schema of the study file.")
def schema() -> None:
    """Print the JSON schema of the study file, for editors."""
    import json

    from promptopt.config.study_file import json_schema

    say(json.dumps(json_schema(), indent=2))


def _print_trials(found: "StudyRows") -> None:
    from promptopt.run.trials import latest

    scored = latest(found.trials)
    say(f"{found.folder}: not finished, {len(scored)} prompts so far.")
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
    # with a minus or plus of its own, each of three numbers, and broken before the interval at the worst
    table.add_column("score (95 %)", justify="right", no_wrap=console.width >= _MIDDLE, min_width=16)
    table.add_column("verdict", min_width=9)
    table.add_column("p", justify="right", no_wrap=True, min_width=7)
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
            "" if plain else _claim(found, entry),
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


def _claim(found: "PromptList", entry: "PromptEntry") -> str:
    from promptopt.study.report.words import claim_word

    if entry.contradicted_by is not None:
        return f"unclear: {entry.contradicted_by.replace('_', ' ')} contradicts"
    return "" if entry.p_value is None else claim_word(found, entry)


def _short(estimate: "EstimateEntry | None", *, percent: bool) -> str:
    style, scale, unit = (".0f", 100, " %") if percent else (".3g", 1, "")
    return value_and_interval(estimate, style, scale=scale, unit=unit, mark="")[0] or "-"
