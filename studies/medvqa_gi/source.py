"""The organizers' files: ``prompt-gt.csv``, the optional ``images.jsonl``, and the folder ``images``."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from promptopt.base.reading import difference, json_lines, read_table, spelling_key, visible
from studies.dataset import DatasetError

CAPTIONS = "prompt-gt.csv"
LISTING = "images.jsonl"
IMAGES = "images"
COLUMNS = ("Prompt", "Filename")
_REMEDY = f"Give the folder that holds {CAPTIONS} and {IMAGES}/."


@dataclass(frozen=True)
class CaptionTable:
    """Captions by file name, in the order of the rows, each once.

    ``rows`` were read, ``repeated`` of them said the same again; ``lines``: where each file comes first.
    """

    captions: dict[str, tuple[str, ...]]
    repeated: int
    rows: int
    lines: dict[str, int]


@dataclass(frozen=True)
class Listed:
    """A row of ``images.jsonl``: which pictures belong together, and on which side of the split."""

    line: int
    group: str
    split: str
    center: str | None


def read_captions(file: Path) -> CaptionTable:
    """Read ``prompt-gt.csv``: separator ";", header "Prompt;Filename", UTF-8 (a BOM is fine), any line end.

    Raises DatasetError naming the file, the line and the remedy.
    """
    right = ";".join(COLUMNS)
    table = read_table(
        file, COLUMNS, error=DatasetError, delimiters=";", remedy=f"{_REMEDY} Its first line is {right}."
    )
    if len(table.columns) != len(COLUMNS):
        shown = ";".join(table.columns)
        raise DatasetError(f"{file}, line 1: got {shown!r}; write {right!r}, no more columns")
    captions: dict[str, dict[str, None]] = {}
    lines: dict[str, int] = {}
    for row in table.rows:
        place = f"{file}, line {row.line}"
        prompt, name = (row.cells[column].strip() for column in COLUMNS)
        for column, value in (("Prompt", prompt), ("Filename", name)):
            if not visible(value).strip():
                raise DatasetError(f"{place}: column {column!r} is empty; fill it in or delete the line")
        check_name(name, place, "Filename")
        captions.setdefault(name, {})[prompt] = None
        lines.setdefault(name, row.line)
    if not table.rows:
        raise DatasetError(f"{file}: holds a header but no caption; write a caption a line")
    distinct = sum(len(prompts) for prompts in captions.values())
    return CaptionTable(
        {name: tuple(prompts) for name, prompts in captions.items()},
        repeated=len(table.rows) - distinct,
        rows=len(table.rows),
        lines=lines,
    )


def check_spelling(table: CaptionTable, files: Collection[str], file: Path) -> None:
    """Refuse a caption whose picture is there under a name in other letter case or Unicode form."""
    unused = {spelling_key(name): name for name in files if name not in table.captions}
    for name, line in table.lines.items():
        other = None if name in files else unused.get(spelling_key(name))
        if other is not None:
            raise DatasetError(
                f"{file}, line {line}: there is no image {name!r}, but {other!r}, which differs "
                f"{difference(name, other)}; write the name as the file has it"
            )


def read_listing(file: Path) -> dict[str, Listed] | None:
    """Read ``images.jsonl`` (keys ``file``, ``group``, ``split``, optionally ``center``; others are ignored).

    None if there is no such file. Raises DatasetError naming the file, the line, the key, the value and the
    remedy; also if a group has pictures on both sides of the split.
    """
    if not file.exists():
        return None
    listed: dict[str, Listed] = {}
    sides: dict[str, tuple[str, int]] = {}
    for number, value in json_lines(file, error=DatasetError):
        place = f"{file}, line {number}"
        for key in ("file", "group", "split"):
            if key not in value:
                raise DatasetError(f"{place}: key {key!r} is missing; every line needs file, group and split")
        name, group, split, center = (value.get(key) for key in ("file", "group", "split", "center"))
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{place}: key 'file': got {name!r}; write a file name")
        check_name(name, place, "file")
        if isinstance(group, bool) or not isinstance(group, str | int) or group == "":
            raise DatasetError(f"{place}: key 'group': got {group!r}; write a number or a name")
        if split not in ("train", "test"):
            raise DatasetError(f"{place}: key 'split': got {split!r}; write 'train' or 'test'")
        if center is not None and (not isinstance(center, str) or not center.strip()):
            raise DatasetError(f"{place}: key 'center': got {center!r}; write a name, or leave it out")
        if name in listed:
            raise DatasetError(
                f"{place}: key 'file': {name!r} was already listed in line {listed[name].line}; "
                "keep one of them"
            )
        side, first = sides.setdefault(str(group), (split, number))
        if side != split:
            raise DatasetError(
                f"{place}: key 'split': group {group!r} is in {split!r} here and in {side!r} in "
                f"line {first}; keep a group on one side"
            )
        listed[name] = Listed(line=number, group=str(group), split=split, center=center)
    if not listed:
        raise DatasetError(f"{file}: is empty; list the images in it, or delete it")
    return listed


def find_images(folder: Path) -> dict[str, Path]:
    """The files of the folder by name, in order of name, links followed; hidden files are not looked at.

    Raises DatasetError if the folder is missing or a link leaves it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder that holds {CAPTIONS} and {IMAGES}/")
    base = Path(os.path.realpath(folder))
    found = {}
    for name in sorted(entry.name for entry in folder.iterdir()):
        path = base / name
        if name.startswith(".") or path.is_dir():
            continue
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(base):
            raise DatasetError(f"{folder / name}: is a link that leaves the folder; copy the image into it")
        if real.is_file():
            found[name] = real
    return found


def check_name(name: str, place: str, key: str) -> None:
    """A plain file name: no folder, no drive, not hidden. Raises DatasetError."""
    if name.startswith(".") or any(c in name for c in "/\\:\0\n\r"):
        raise DatasetError(
            f"{place}: {key} {name!r} is not a plain file name; write the name of a file in {IMAGES}/"
        )
