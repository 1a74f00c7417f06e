"""The files of `promptopt export list`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from promptopt.export.best import BestList, best_list, to_json
from promptopt.export.best_tables import to_csv, to_latex, to_markdown
from promptopt.run.errors import ExportError
from promptopt.run.finished import FinishedRun

_FORMATS: dict[str, tuple[str, Callable[[BestList], str]]] = {
    "json": ("best-prompts.json", to_json),
    # with a byte order mark: without one, spreadsheets take UTF-8 for something else
    "csv": ("best-prompts.csv", lambda best: "\ufeff" + to_csv(best)),
    "md": ("best-prompts.md", to_markdown),
    "latex": ("best-prompts.tex", to_latex),
}
FORMATS = tuple(_FORMATS)


def write_best_list(
    runs: Sequence[FinishedRun], out: str | Path, *, formats: Sequence[str] = FORMATS, force: bool = False
) -> list[Path]:
    """Write the list in these formats; every file is whole before the first one takes its place.

    Raises:
        ExportError: an unknown format, files that are there already (without `force`), or a folder that
            cannot be written; then what was there stays as it was.
    """
    unknown = [name for name in formats if name not in _FORMATS]
    if unknown or not formats:
        said = repr(",".join(unknown)) if unknown else "empty"
        raise ExportError(f"--format: {said}; write one or more of {', '.join(FORMATS)}, with commas between")
    best = best_list(runs)
    texts = {_FORMATS[name][0]: _FORMATS[name][1](best) for name in dict.fromkeys(formats)}
    folder = Path(out)
    present = [name for name in texts if (folder / name).exists()]
    if present and not force:
        raise ExportError(
            f"{folder}: {', '.join(present)} there already; choose another folder, or --force to replace"
        )
    waiting: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".partial")
            waiting.append((Path(temporary), folder / name))
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
        for temporary_path, target in waiting:
            temporary_path.replace(target)
    except OSError as error:
        raise ExportError(
            f"{folder}: the list cannot be written ({error.strerror or error}); free some space or choose "
            "another folder. Nothing was replaced."
        ) from error
    finally:
        for temporary_path, _ in waiting:
            temporary_path.unlink(missing_ok=True)
    return [target for _, target in waiting]
