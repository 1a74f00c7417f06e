"""The organizers' files: ``prompt-gt.csv``, the optional ``images.jsonl``, and the folder ``images``."""

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

from studies.dataset import DatasetError

CAPTIONS = "prompt-gt.csv"
LISTING = "images.jsonl"
IMAGES = "images"
COLUMNS = ("Prompt", "Filename")


@dataclass(frozen=True)
class CaptionTable:
    """Captions by file name, in the order of the rows, each once; ``repeated``: rows dropped for that."""

    captions: dict[str, tuple[str, ...]]
    repeated: int


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
    text = _read_text(file)
    if not text.strip():
        raise DatasetError(f"{file}: is empty; write the header {';'.join(COLUMNS)} and a caption a line")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";", strict=True)
    captions: dict[str, dict[str, None]] = {}
    rows = 0
    try:
        header = [name.strip() for name in next(reader)]
        _check_header(header, file)
        prompt_at, name_at = (header.index(column) for column in COLUMNS)
        for row in reader:
            place = f"{file}, line {reader.line_num}"
            if not row:
                continue
            if len(row) != len(COLUMNS):
                raise DatasetError(
                    f"{place}: {len(row)} fields in {';'.join(row)[:80]!r}; write "
                    f"{';'.join(COLUMNS)}, and put "
                    'a caption that holds a ";" in double quotes'
                )
            prompt, name = row[prompt_at].strip(), row[name_at].strip()
            for column, value in (("Prompt", prompt), ("Filename", name)):
                if not value:
                    raise DatasetError(f"{place}: column {column!r} is empty; fill it in or delete the line")
            check_name(name, place, "Filename")
            captions.setdefault(name, {})[prompt] = None
            rows += 1
    except csv.Error as error:
        raise DatasetError(f"{file}, line {reader.line_num}: {error}; correct the quotes there") from None
    if not rows:
        raise DatasetError(f"{file}: holds a header but no caption; write a caption a line")
    distinct = sum(len(prompts) for prompts in captions.values())
    return CaptionTable({name: tuple(prompts) for name, prompts in captions.items()}, rows - distinct)


def read_listing(file: Path) -> dict[str, Listed] | None:
    """Read ``images.jsonl`` (keys ``file``, ``group``, ``split``, optionally ``center``; others are ignored).

    None if there is no such file. Raises DatasetError naming the file, the line, the key, the value and the
    remedy; also if a group has pictures on both sides of the split.
    """
    if not file.exists():
        return None
    listed: dict[str, Listed] = {}
    sides: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(_read_text(file).split("\n"), start=1):
        place = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{place}, column {error.colno}: not JSON ({error.msg}); write an object a line"
            ) from None
        if not isinstance(value, dict):
            raise DatasetError(f"{place}: got {line.strip()[:60]!r}; write an object a line")
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
        raise DatasetError(f"{file}: is empty; list the pictures in it, or delete it")
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
            raise DatasetError(f"{folder / name}: is a link that leaves the folder; copy the picture into it")
        if real.is_file():
            found[name] = real
    return found


def check_name(name: str, place: str, key: str) -> None:
    """A plain file name: no folder, no drive, not hidden. Raises DatasetError."""
    if name.startswith(".") or any(c in name for c in "/\\:\0\n\r"):
        raise DatasetError(
            f"{place}: {key} {name!r} is not a plain file name; write the name of a file in {IMAGES}/"
        )


def _check_header(header: list[str], file: Path) -> None:
    right = ";".join(COLUMNS)
    if sorted(header) == sorted(COLUMNS):
        return
    if len(header) == 1 and (other := next((s for s in (",", "\t", "|") if s in header[0]), None)):
        raise DatasetError(
            f"{file}, line 1: got {header[0]!r}, separated by {other!r}; "
            f"the separator is ';': write {right!r}"
        )
    for column in COLUMNS:
        if column not in header:
            raise DatasetError(
                f"{file}, line 1: got {';'.join(header)!r}, without {column!r}; write {right!r}"
            )
    raise DatasetError(f"{file}, line 1: got {';'.join(header)!r}; write {right!r}, no more columns")


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"{file}: no such file; give the folder that holds {CAPTIONS} and {IMAGES}/"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from error
