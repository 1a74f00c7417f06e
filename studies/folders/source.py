"""Pictures in folders by class, or in any folders with a table that says the class."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from promptopt.base.files import SUFFIXES, images_below
from promptopt.base.reading import difference, near_name, numbered_lines, read_table, read_text, visible
from studies.dataset import POOLS, DatasetError
from studies.folders.found import Found

_COLUMNS = {
    "file_name": ("file_name", "filename", "file", "image", "path"),
    "label": ("label", "class", "category"),
    "text": ("text", "caption", "prompt"),
    "group": ("group", "patient", "patient_id"),
    "center": ("center", "centre", "hospital"),
}
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


@dataclass(frozen=True)
class _Row:
    line: int
    cells: Mapping[str, str]
    captions: tuple[str, ...]


def find_pictures(
    source: str | Path,
    *,
    labels: Path | None = None,
    group_regex: str | None = None,
    center_regex: str | None = None,
    center_folders: bool = False,
) -> list[Found]:
    """The pictures below a folder, in order of their paths, with their classes.

    The class is the first folder of a picture's path (the second with ``center_folders``: the first is then
    where it comes from), or what the CSV ``labels`` says: a table with the column ``file_name`` and any of
    ``label``, ``text``, ``group``, ``center``; with a column ``label`` it lists every picture that is taken.
    Captions are the table's, else the lines of a ``.txt`` file of the same name beside the picture. The
    expressions are searched in the path; what their first group (or the whole of them) matches is the name of
    the group or center.

    Raises DatasetError naming the folder, the file or the picture, and what to do.
    """
    source = Path(source)
    if str(source).startswith("hf:"):
        raise DatasetError(f"{source}: is an address; use 'promptopt data prepare imagefolder {source} OUT'")
    if not source.exists():
        raise DatasetError(f"{source}: no such folder; check the path (you are in {Path.cwd()})")
    if not source.is_dir():
        raise DatasetError(f"{source}: is a file; give the folder that holds a folder for each class")
    group_pattern = _compiled(group_regex, "--group-regex")
    center_pattern = _compiled(center_regex, "--center-regex")
    files, _ = images_below(source)
    if not files:
        known = ", ".join(SUFFIXES)
        raise DatasetError(
            f"{source}: holds no image ({known}), nor does a folder in it; give the folder that holds a "
            "folder for each class"
        )
    paths = {path.relative_to(source).as_posix(): path for path in files}
    rows = _read_labels(labels, source, paths) if labels is not None else {}
    by_table = any("label" in row.cells for row in rows.values())
    names = [name for name in paths if name in rows] if by_table else list(paths)
    found = []
    for name in names:
        row = rows.get(name)
        cells = row.cells if row is not None else {}
        parts = PurePosixPath(name).parts[:-1]
        center = cells.get("center") or _matched(center_pattern, name, "--center-regex")
        if center_folders and parts:
            center, parts = parts[0], parts[1:]
        found.append(
            Found(
                name=name,
                path=paths[name],
                label=cells["label"] if by_table else (parts[0] if parts else ""),
                captions=row.captions if row is not None and row.captions else _beside(paths[name]),
                center=center,
                group=cells.get("group") or _matched(group_pattern, name, "--group-regex"),
            )
        )
    if not by_table:
        _check_folders(source, found, center_folders)
    return found


def _check_folders(source: Path, found: list[Found], center_folders: bool) -> None:
    loose = [one.name for one in found if not one.label]
    if loose:
        level = "center and class (CENTER/CLASS/image)" if center_folders else "each class (CLASS/image)"
        raise DatasetError(
            f"{source}: {len(loose)} of {len(found)} images lie in no folder of a class, such as "
            f"{loose[0]!r}; make a folder for {level}, or give a table with --labels labels.csv whose first "
            "line is 'file_name,label'"
        )
    labels = {one.label for one in found}
    if {label.lower() for label in labels} <= _SPLITS | set(POOLS):
        raise DatasetError(
            f"{source}: its folders {', '.join(sorted(labels))} are parts of a data set, not classes; give "
            f"one of them, or all with 'promptopt data prepare imagefolder {source} OUT'"
        )


def _compiled(text: str | None, option: str) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise DatasetError(f"{option}: {text!r} is no regular expression ({error}); correct it") from None


def _matched(pattern: re.Pattern[str] | None, name: str, option: str) -> str | None:
    if pattern is None:
        return None
    match = pattern.search(name)
    value = None if match is None else (match[1] if pattern.groups else match[0])
    if not value:
        raise DatasetError(
            f"{option}: {pattern.pattern!r} matches nothing in {name!r}; write one that matches every "
            "image's path, such as '(patient\\d+)'"
        )
    return value


def _beside(path: Path) -> tuple[str, ...]:
    """The lines of the .txt file beside a picture."""
    file = path.with_suffix(".txt")
    if not file.is_file():
        return ()
    lines = (line.strip() for _, line in numbered_lines(read_text(file, error=DatasetError)))
    return tuple(dict.fromkeys(line for line in lines if visible(line).strip()))


def _read_labels(file: Path, source: Path, paths: Mapping[str, Path]) -> dict[str, _Row]:
    remedy = "Its first line must be 'file_name,label', or more columns: text, group, center."
    table = read_table(file, (), error=DatasetError, remedy=remedy, any_case=True)
    columns = {
        key: next((name for name in names if name in table.columns), None) for key, names in _COLUMNS.items()
    }
    if columns["file_name"] is None or not any(columns[key] for key in _COLUMNS if key != "file_name"):
        raise DatasetError(f"{file}, line 1: got the columns {', '.join(table.columns)}", remedy=remedy)
    found: dict[str, _Row] = {}
    for row in table.rows:
        cells = {key: row.cells[name].strip() for key, name in columns.items() if name is not None}
        name, place = str(PurePosixPath(cells.pop("file_name"))), f"{file}, line {row.line}"
        if name not in paths:
            raise DatasetError(f"{place}: {_missing(name, source, paths)}")
        for key in ("label", "group", "center"):
            if key in cells and not visible(cells[key]).strip():
                raise DatasetError(f"{place}: the {key} of {name!r} is empty; fill it in")
        text = cells.pop("text", "")
        captions = (text,) if visible(text).strip() else ()
        before = found.setdefault(name, _Row(row.line, cells, ()))
        if before.cells != cells:
            raise DatasetError(
                f"{place}: {name!r} is {', '.join(cells.values())} here and "
                f"{', '.join(before.cells.values())} in line {before.line}; keep one"
            )
        found[name] = _Row(before.line, cells, tuple(dict.fromkeys((*before.captions, *captions))))
    return found


def _missing(name: str, source: Path, paths: Mapping[str, Path]) -> str:
    if (near := near_name(source, name)) is not None:
        return (
            f"there is no image {name!r}, but {near!r}, which differs {difference(name, near)}; write the "
            "name as the file has it"
        )
    same = [path for path in paths if PurePosixPath(path).name == name]
    hint = f"write {same[0]!r}" if same else f"names are paths inside {source}, such as {next(iter(paths))!r}"
    return f"there is no image {name!r}; {hint}"
