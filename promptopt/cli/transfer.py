"""`promptopt transfer`: do a run's winners win with another generator too?"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._options import Device, On, Store
from promptopt.cli._text import say, terminal
from promptopt.cli._values import run_value
from promptopt.formatting.numbers import format_estimate

if TYPE_CHECKING:
    from evaluation.estimate import Estimate
    from promptopt.transfer.transfer import Transfer

_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)")


def transfer(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", callback=run_value, help="Finished runs: folders, or names of folders in runs."
        ),
    ],
    generator: Annotated[
        list[str],
        typer.Option(metavar="URI", help="Another generator's URI, or NAME=URI; once for each generator."),
    ],
    images: Annotated[
        int | None, typer.Option(min=4, help="Images of each prompt. Default: as in the run's confirmation.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Draw seeds that the run has not used, not the confirmation's.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the study, e.g. generator.steps=30; may be given again.",
        ),
    ] = None,
    store: Store = Path("store"),
    out: Annotated[
        Path, typer.Option("--out", "--output-dir", help="Folder for table, JSON and figure.")
    ] = Path("transfer"),
    on: On = "here",
    device: Device = "auto",
) -> None:
    """Draw a run's confirmed prompts with other generators, and compare each with its own baseline images.

    Same seeds, encoder and test pool as in the run's confirmation. Stop it any time; the same command goes on
    and makes no image twice.
    """
    from promptopt.base.settings import parse_changes
    from promptopt.cli._progress import Bars
    from promptopt.transfer.output import write_transfers
    from promptopt.transfer.transfer import transfer as measure

    named = _named(generator)
    changes = parse_changes(set_ or [])
    found: dict[str, list[Transfer]] = {name: [] for name in named}
    for name, uri in named.items():
        for run in runs:
            with Bars(f"{run.name}, {name}") as bar:
                found[name].append(
                    measure(
                        run,
                        uri,
                        store=store,
                        images=images,
                        fresh=fresh,
                        changes=changes,
                        device=device,
                        on=on,
                        on_image=bar.image,
                    )
                )
    files = write_transfers(found, out)
    _print(found)
    every = [one for several in found.values() for one in several]
    made, there = sum(one.generated for one in every), sum(one.reused for one in every)
    say(f"{made} images generated now, {there} from the store")
    say("wrote " + ", ".join(path.name for path in files) + f" in {out}")


def _named(texts: list[str]) -> dict[str, str]:
    """Name -> URI; without a name of its own a generator goes by its URI."""
    found: dict[str, str] = {}
    for text in texts:
        match = _NAMED.fullmatch(text)
        name, uri = match.groups() if match else (text, text)
        if name in found:
            raise typer.BadParameter(f"--generator {text!r}: {name!r} is given twice; use other names")
        found[name] = uri
    return found


def _print(found: "dict[str, list[Transfer]]") -> None:
    from rich.table import Table
    from rich.text import Text

    console = terminal(highlight=False)
    for several in zip(*found.values(), strict=True):
        first = several[0]
        table = Table(
            title=f"{first.study}: score of each prompt, {len(first.seeds)} images; the baseline is 0",
            title_justify="left",
        )
        table.add_column("rank", justify="right")
        table.add_column("prompt", overflow="fold", min_width=20)
        table.add_column("generator", overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
        for place, row in enumerate(first.rows):
            table.add_row(str(row.home_rank), Text(row.candidate.label), Text("home"), _score(row.home))
            for name, one in zip(found, several, strict=True):
                away = one.rows[place].away
                table.add_row("", "", Text(name), "too long" if away is None else _score(away.estimate))
            table.add_section()
        for name, one in zip(found, several, strict=True):
            table.add_row("", "rank correlation with home", Text(name), _score(one.rank_correlation))
        console.print(table)
        for name, one in zip(found, several, strict=True):
            console.print(Text(f"{name}: {one.sentence}"), soft_wrap=True)
            for cut in one.too_long:
                console.print(
                    Text(f"{name}: left out, {cut.count} tokens, {cut.lost!r} would be lost: {cut.prompt}"),
                    style="yellow",
                    soft_wrap=True,
                )


def _score(estimate: "Estimate") -> str:
    return format_estimate(estimate, "+.2f")
