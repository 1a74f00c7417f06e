"""The files of `promptopt export list`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from promptopt.base.files import new_files
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
    files = [folder / name for name in texts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with new_files(files) as partials:
            for partial, text in zip(partials, texts.values(), strict=True):
                partial.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExportError(
            f"{folder}: the list cannot be written ({error.strerror or error}); free some space or choose "
            "another folder. Nothing was replaced."
        ) from error
    return files
