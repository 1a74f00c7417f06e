"""`promptopt doctor`: what is there, what is missing, and what to do about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptopt.cli._text import say, terminal
from promptopt.cli._wrapped import wrapped

if TYPE_CHECKING:
    from promptopt.doctor.checks import Report

_NAME = 26  # columns of a name
_MARKS = {"ok": ("ok", "green"), "note": ("--", "yellow"), "broken": ("BAD", "red")}


def doctor(
    folder: Annotated[Path, typer.Option(help="Folder whose disk is looked at.")] = Path(),
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="A folder or file of weights to look at; may be given again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Examine machine, packages, weights and disk; exits with 1 when something that is needed is broken."""
    from promptopt.doctor.checks import examine

    report = examine(folder=folder, given=weights or ())
    if as_json:
        import json

        say(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _print(report: "Report") -> None:
    from rich.text import Text

    console = terminal(highlight=False, soft_wrap=True)

    def line(mark: str, name: str, text: str, remedy: str) -> None:
        shown, style = _MARKS[mark]
        gap = " " * (_NAME + 5)
        width = console.width - len(gap) if console.is_terminal else 0
        first, *more = wrapped(text, width=width) or [""]
        if len(name) > _NAME:  # its text stands below it
            console.print(Text.assemble((f"{shown:<4}", style), name))
            console.print(Text(gap + first))
        else:
            console.print(Text.assemble((f"{shown:<4}", style), f"{name:<{_NAME}} {first}"))
        for part in more:
            console.print(Text(gap + part))
        for part in wrapped(remedy and f"-> {remedy}", indent=3, width=width):
            console.print(Text(gap + part, style="cyan"))

    group = ""
    for check in report.checks:
        if check.group != group:
            group = check.group
            console.print(Text(f"\n{group}", style="bold"))
        line(check.status, check.name, check.text, check.remedy)
    broken = [check for check in report.checks if check.status == "broken"]
    console.print()
    if not broken:
        console.print(Text("Everything that is needed works.", style="green"))
        console.print("Next: promptopt data prepare folders DIR OUT (your images), then promptopt init")
    for check in broken:
        console.print(Text(f"{check.name}: {check.text}", style="red"))
