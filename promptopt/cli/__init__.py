"""One module for each command group. They import nothing heavy before a command runs."""

import typer


def group(text: str) -> typer.Typer:
    """A command group with the settings that all of them share."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
