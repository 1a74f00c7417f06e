"""Numbers on the command line are finite, and text is Unicode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import typer


def finite(text: str) -> float:
    """A number. Raises ValueError for NaN and infinity too."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def finite_value(value: float | None) -> float | None:
    """Callback of every option that takes a float: click lets NaN pass whatever the range."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def store_value(value: Path) -> Path:
    """Callback of every option that names a whole store: the folder that this machine has of it."""
    from generators.stores.address import store_folder

    return store_folder(value)


Run = TypeVar("Run", Path, list[Path], None)


def run_value(value: Run) -> Run:
    """Callback of arguments that name runs: by their folders, or by the names of folders in ``runs``."""
    from promptopt.run.folder import run_folder

    if isinstance(value, list):
        return [run_folder(one) for one in value]
    return None if value is None else run_folder(value)


def check_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8, which Python reads as halves of surrogate pairs."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise typer.BadParameter(f"{argument!r} is not UTF-8; write it, or rename the file, in UTF-8")
