"""A folder of pictures with captions, as the trainers of the ecosystem take them, seen as a data set."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studies.dataset import METADATA, Dataset, DatasetError, Record, read_dataset

_CSV = "metadata.csv"
_UNKNOWN = "images"


def read_captioned(root: str | Path) -> Dataset:
    """Read a prepared data set, or any imagefolder whose metadata tell ``file_name`` and ``text``.

    The latter (`metadata.jsonl` or `metadata.csv`, as `datasets` reads it) has no pools: all of it is taken
    as pool "reference", each picture a group of its own, of the category and label "images".
    Raises DatasetError naming the file, the line and the remedy.
    """
    root = Path(root)
    jsonl, table = root / METADATA, root / _CSV
    if jsonl.is_file():
        rows = list(_json_rows(jsonl))
        if not rows or any("pool" in row for _, row in rows):
            return read_dataset(root)
        source = jsonl
    elif table.is_file():
        rows, source = list(_csv_rows(table)), table
    else:
        return read_dataset(root)
    records = [_record(root, row, place) for place, row in rows]
    if not records:
        raise DatasetError(f"{source}: holds no picture")
    return Dataset(
        root=root, records=tuple(records), fingerprint=hashlib.sha256(source.read_bytes()).hexdigest()
    )


def _record(root: Path, row: dict[str, Any], place: str) -> Record:
    name, text = row.get("file_name"), row.get("text")
    texts = (text,) if isinstance(text, str) else text
    if not isinstance(name, str) or not name:
        raise DatasetError(f"{place}: file_name is {name!r}; it must name a picture beside the file")
    if not texts or not all(isinstance(line, str) and line.strip() for line in texts):
        raise DatasetError(f"{place}: text is {text!r}; it must be a caption, or a list of captions")
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DatasetError(f"{place}: file_name {name!r} leaves the folder; give a path inside it")
    if not path.is_file():
        raise DatasetError(f"{place}: {name!r} does not exist; restore it, or take the line out")
    return Record(
        file_name=name,
        text=tuple(texts),
        category=_UNKNOWN,
        label=_UNKNOWN,
        center=_UNKNOWN,
        group=name,
        pool="reference",
    )


def _json_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if line.strip():
            place = f"{file}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DatasetError(f"{place}: not JSON ({error}); each line is one object") from None
            if not isinstance(row, dict):
                raise DatasetError(f"{place}: holds {type(row).__name__}; each line is one object")
            yield place, row


def _csv_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(csv.DictReader(_text(file).splitlines()), start=2):
        yield f"{file}, line {number}", row


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: cannot be read ({error}); save it as UTF-8") from error
