"""`promptopt sweep`: many studies from one file."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.base.reading import one_line
from promptopt.cli._options import Device, On, Publish, Store
from promptopt.cli._text import say, terminal

if TYPE_CHECKING:
    from promptopt.study.observer import Observer
    from promptopt.sweep.file import Variant
    from promptopt.sweep.running import RunRecord, SweepRunner


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep file: name, study, over.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and what they cost; make no image.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the study in all runs; may be given again."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    store: Store = Path("store"),
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "--output-dir", help="Folder of sweep.csv and sweep.json; default: sweeps/NAME."
        ),
    ] = None,
    device: Device = "auto",
    on: On = "here",
    publish: Publish = None,
) -> None:
    """Run every combination of some keys of a study, one after the other, and compare them in a table.

    The same command again skips what is finished and goes on with the rest. A study that fails does not stop
    the others; it is named at the end, and the exit code is 1.
    """
    from promptopt.base.settings import parse_changes
    from promptopt.sweep.file import load_sweep

    found = load_sweep(file, changes=parse_changes(set_ or []))
    target = None
    if publish is not None:
        from promptopt.publishing.publisher import check_publishing

        target = check_publishing(publish)
    from promptopt.cli._live import LiveStudy
    from promptopt.formatting.numbers import count
    from promptopt.study.opening import check_place
    from promptopt.sweep.running import STATE, TABLE, SweepRunner

    check_place(on)
    place = out or Path("sweeps") / found.name
    runner = SweepRunner(found, place, runs=runs, store=store, device=device, on=on)
    if dry_run:
        _print_plan(runner)
        return

    @contextmanager
    def watching(variant: "Variant") -> "Iterator[Observer]":
        number = found.variants.index(variant) + 1
        say(f"{number} of {len(found.variants)}: {variant.name}")
        with LiveStudy() as live:
            if target is None:
                yield live
                return
            from promptopt.publishing.observer import Publishing
            from promptopt.study.observer import Observers

            with Publishing(runs / variant.name, target, on_trouble=live.on_warning) as publishing:
                yield Observers(live, publishing)

    def failed(variant: "Variant", why: str) -> None:
        say(f"{variant.name} failed, the others go on: {why}", err=True, fg="yellow")

    if done := sum(one.state == "finished" for one in runner.records.values()):
        say(f"{done} of {count(len(found.variants), 'run')} finished before")
    records = runner.run(observer=watching, on_failure=failed)
    _print_table(records, found.name)
    say(f"{place / TABLE}\n{place / STATE}")
    lost = [one for one in records if one.state == "failed"]
    for one in lost:
        say(f"{one.name}: {one.error}", err=True, title="Failed: ", fg="red", bold=True)
    if lost:
        raise typer.Exit(1)
    two = [str(runs / one.name) for one in records[:2]]
    say(f"Next: promptopt study {'compare' if len(two) > 1 else 'show'} {shlex.join(two)}")


def _print_plan(runner: "SweepRunner") -> None:
    from rich.text import Text

    from promptopt.cli._sets import plain_table
    from promptopt.formatting.numbers import count, duration

    planned = runner.planned()
    table = plain_table(f"{runner.sweep.name}: {count(len(planned), 'run')}")
    for name in ("run", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("images, at most", justify="right")
    for one in planned:
        table.add_row(Text(one.variant.name), one.state, f"{one.images:,}")
    terminal(highlight=False).print(table)
    images = sum(one.images for one in planned)
    rate = runner.seconds_an_image()
    time = "" if rate is None else f", about {duration(images * rate)} by the runs made so far"
    say(f"At most {count(images, 'image')}{time}.\nNext: the same command without --dry-run")


def _print_table(records: "list[RunRecord]", name: str) -> None:
    from rich.text import Text

    from promptopt.cli._sets import plain_table
    from promptopt.formatting.numbers import count

    table = plain_table(f"{name}: {count(len(records), 'run')}")
    for column in ("run", "state", "result"):
        table.add_column(column, overflow="fold")
    table.add_column("images", justify="right")
    for one in records:
        said = one.error or one.facts.get("result", "")
        table.add_row(Text(one.name), one.state, Text(one_line(said)), f"{one.images:,}")
    terminal(highlight=False).print(table)
