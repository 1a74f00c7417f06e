"""What commands print: text that may come from files, so nothing in it may act on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from promptopt.base.reading import printable

if TYPE_CHECKING:
    from rich.console import Console


def say(text: object = "", *, err: bool = False, title: str = "", **style: Any) -> None:
    """A line on stdout or stderr; `style` is typer's, of the `title` before it or else of the line."""
    said = printable(str(text))
    line = typer.style(printable(title), **style) + said if title else typer.style(said, **style)
    typer.echo(line if style else title + said, err=err)


WARNING = "Warning: "  # every warning begins so, as every error does with "Error: "


def warn(text: object) -> None:
    """A line on stderr that the reader should heed."""
    say(f"{WARNING}{text}", fg="yellow", err=True)


def terminal(**options: Any) -> Console:
    """rich's console, with `options` of it: only its own codes act on the terminal, tables cut no text."""
    from rich.console import Console as RichConsole
    from rich.segment import Segment
    from rich.table import Table

    class Plain(RichConsole):
        def print(self, *objects: Any, **options: Any) -> None:
            for table in objects:
                for column in table.columns if isinstance(table, Table) else ():
                    column.overflow = "fold"
            super().print(*objects, **options)

        def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
            for segment in super().render(*arguments, **options):
                if segment.control:
                    yield segment
                else:
                    yield Segment(printable(segment.text), segment.style)

    return Plain(**options)
