"""The prepared data set: a Hugging Face ``imagefolder`` with a ``metadata.jsonl`` that every stage reads.

One line a picture, with the keys ``file_name``, ``text`` (one caption or a list of them), ``category``,
``label``, ``center``, ``group``, ``pool`` and, optionally, ``attributes`` (truth known to the maker of the
picture). Pictures that are nearly the same share a ``group``, and a group lies in one pool only: otherwise a
search would be confirmed on pictures it has already seen.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from promptopt.base.errors import PromptoptError
from promptopt.base.files import file_digest, kept_digests, write_text
from promptopt.base.reading import difference, json_lines, near_name, read_table, visible

Pool = Literal["reference", "validation", "test"]
POOLS: tuple[str, ...] = get_args(Pool)
METADATA = "metadata.jsonl"
TABLE = "metadata.csv"
UNKNOWN = "images"
FEWEST = 4
"""Images of a class, and of the others, that each pool needs for any estimate at all."""
CLAIM_FROM = 32
"""Fewest fresh images of a method, and of real test images, below which nothing is called better or worse."""

_NAMES = ("category", "label", "center", "group")
_REQUIRED = ("file_name", "text", *_NAMES, "pool")
_PREPARED = ("center", "group", "pool")  # keys that no other imagefolder has
_KEYS = (*_REQUIRED, "attributes")


class DatasetError(PromptoptError, ValueError):
    """A data set folder, or a line of its ``metadata.jsonl``, cannot be used as it is."""


@dataclass(frozen=True)
class Record:
    """One picture. ``file_name`` is relative to the data set's folder, with forward slashes."""

    file_name: str
    text: tuple[str, ...]
    category: str
    label: str
    center: str
    group: str
    pool: Pool
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Dataset:
    """The records of a folder, in the order of its file.

    ``fingerprint`` is the sha256 of the bytes of its table; a selection by :meth:`where` keeps it.
    ``pooled``: whether the table says which pool a picture is in.
    """

    root: Path
    records: tuple[Record, ...]
    fingerprint: str
    pooled: bool = True

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def path(self, record: Record) -> Path:
        """Where the picture of a record lies."""
        return self.root / record.file_name

    def paths(self) -> list[Path]:
        """Where the pictures lie, in the order of the records."""
        return [self.path(record) for record in self.records]

    def digests(self, cache: Path | None = None) -> dict[str, str]:
        """``file_name`` -> sha256 of each picture's bytes.

        Args:
            cache: a file that spares the next process reading those that have not changed.

        Raises:
            OSError: a picture cannot be read.
        """
        paths = self.paths()
        found = [file_digest(path) for path in paths] if cache is None else kept_digests(paths, cache)
        return {record.file_name: digest for record, digest in zip(self.records, found, strict=True)}

    def where(
        self,
        *,
        pool: str | Collection[str] | None = None,
        category: str | Collection[str] | None = None,
        label: str | Collection[str] | None = None,
        center: str | Collection[str] | None = None,
    ) -> "Dataset":
        """The records that meet every condition; each is a value, several of them, or None for "any".

        Raises DatasetError for a pool that does not exist, which would otherwise select nothing in silence.
        """
        wanted: dict[str, frozenset[str]] = {}
        for key, value in {"pool": pool, "category": category, "label": label, "center": center}.items():
            if value is not None:
                wanted[key] = frozenset((value,) if isinstance(value, str) else value)
        if unknown := wanted.get("pool", frozenset()) - set(POOLS):
            raise DatasetError(f"pool {sorted(unknown)[0]!r} does not exist; use one of {', '.join(POOLS)}")
        kept = (r for r in self.records if all(getattr(r, key) in values for key, values in wanted.items()))
        return replace(self, records=tuple(kept))


def read_dataset(root: str | Path, *, verify_images: bool = False) -> Dataset:
    """Read and check a prepared data set, or any imagefolder whose table says ``file_name`` and ``text``.

    The latter (``metadata.jsonl`` or ``metadata.csv``, as `datasets` reads it) has no pools: all of it is
    taken as pool "reference", each picture a group of its own; its label is its ``label``, else the folder it
    lies in, else "images", and its category ``category``, else its label. Several rows of one picture are its
    captions.

    Every picture must exist inside the folder; ``verify_images`` also decodes each of them to the last pixel.
    Raises DatasetError naming the file, the line, the key, the value and the remedy.
    """
    root = Path(root)
    file = metadata_file(root) or root / METADATA
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that 'promptopt data prepare' wrote")
    rows = _rows(root, file)
    if not rows:
        raise DatasetError(f"{file}: holds no record; prepare the data again")
    pooled = any(key in row for _, row in rows for key in _PREPARED)
    if not pooled:
        rows = _completed(rows, file)
    base = Path(os.path.realpath(root))
    records, places = [], []
    for number, row in rows:
        place = f"{file}, line {number}"
        record = _record_from(row, place)
        _check_image(base, record, place, decode=verify_images)
        records.append(record)
        places.append(place)
    _check_together(records, places)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Dataset(root=root, records=tuple(records), fingerprint=digest, pooled=pooled)


def metadata_file(root: str | Path) -> Path | None:
    """The table of a data set's folder: ``metadata.jsonl``, else ``metadata.csv``; None where neither is."""
    return next((file for file in (Path(root) / METADATA, Path(root) / TABLE) if file.is_file()), None)


def share_out(dataset: Dataset) -> Dataset:
    """The data set with pools: its own, or (of an imagefolder without any) three, drawn by the files' bytes.

    Of each label three fifths go to "reference", a fifth each to "validation" and "test". Byte-identical
    pictures share a group; near-duplicates are not looked for.
    """
    if dataset.pooled:
        return dataset
    digests = [file_digest(path) for path in dataset.paths()]
    labels: dict[str, str] = {}
    for record, digest in zip(dataset, digests, strict=True):
        labels.setdefault(digest, record.label)
    turns: Counter[str] = Counter()
    pools: dict[str, Pool] = {}
    order: tuple[Pool, ...] = ("reference", "validation", "test", "reference", "reference")
    for digest in sorted(labels):
        pools[digest] = order[turns[labels[digest]] % len(order)]
        turns[labels[digest]] += 1
    records = (
        replace(record, group=digest[:16], pool=pools[digest])
        for record, digest in zip(dataset, digests, strict=True)
    )
    return replace(dataset, records=tuple(records), pooled=True)


def _rows(root: Path, file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The lines of the table, with their numbers."""
    if file.name == METADATA:
        remedy = "Prepare your images (promptopt data prepare folders DIR OUT), then give OUT."
        return list(json_lines(file, error=DatasetError, remedy=remedy))
    remedy = "The first line must be 'file_name,text'."
    table = read_table(file, ("file_name", "text"), error=DatasetError, remedy=remedy)
    return [(row.line, dict(row.cells)) for row in table.rows]


def _completed(rows: Iterable[tuple[int, dict[str, Any]]], file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Rows of an imagefolder with all keys; several rows of one picture become one with all its captions."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, row in rows:
        name, text = row.get("file_name"), row.get("text")
        texts = [text] if isinstance(text, str) else text
        place = f"{file}, line {number}"
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{place}: file_name is {name!r}; it must name an image beside the file")
        if not isinstance(texts, list) or not texts or not all(map(_is_text, texts)):
            raise DatasetError(f"{place}: text is {text!r}; it must be a caption, or a list of captions")
        name = str(PurePosixPath(name))
        label = str(row.get("label") or PurePosixPath(name).parent.name or UNKNOWN)
        value = {"file_name": name, "category": str(row.get("category") or label), "label": label}
        value |= {"center": UNKNOWN, "group": name, "pool": "reference"}
        first = found.setdefault(name, (number, {**value, "text": []}))[1]
        if first["label"] != label:
            raise DatasetError(f"{place}: {name!r} has the label {label!r}, and {first['label']!r} before")
        first["text"] += [one for one in texts if one not in first["text"]]
    return list(found.values())


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(visible(value).strip())


def write_metadata(root: str | Path, records: Iterable[Record]) -> Path:
    """Write ``metadata.jsonl`` into an existing folder, whole or not at all, and return its path.

    Raises DatasetError if a name leaves the folder or comes twice, a value is missing, or a group crosses
    pools.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; make it and put the images there first")
    records = list(records)
    if not records:
        raise DatasetError(
            f"{root / METADATA}: there is no record to write; a data set has at least one image"
        )
    places = [f"{root / METADATA}, record {number}" for number in range(1, len(records) + 1)]
    for record, place in zip(records, places, strict=True):
        if isinstance(record.text, str):
            raise DatasetError(f"{place}: key 'text': got a string; a Record holds a tuple of captions")
        _record_from(_object_from(record, as_list=True), place)
    _check_together(records, places)

    # Readers such as `datasets` want one type for a column, so either every text is a string or none is.
    as_list = any(len(record.text) != 1 for record in records)
    lines = []
    for record, place in zip(records, places, strict=True):
        try:
            lines.append(json.dumps(_object_from(record, as_list=as_list), allow_nan=False) + "\n")
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{place}: key 'attributes': {error}; use plain JSON values") from error
    return write_text(root / METADATA, lines)


def _object_from(record: Record, *, as_list: bool) -> dict[str, Any]:
    texts = list(record.text)
    value: dict[str, Any] = {"file_name": record.file_name, "text": texts if as_list else texts[0]}
    value.update({key: getattr(record, key) for key in (*_NAMES, "pool")})
    if record.attributes:
        value["attributes"] = dict(record.attributes)
    return value


def _record_from(value: Mapping[str, Any], place: str) -> Record:
    """Check one object of the file and make a Record of it."""
    for key in _REQUIRED:
        if key not in value:
            raise DatasetError(f"{place}: key {key!r} is missing; every line needs {', '.join(_REQUIRED)}")
    for key in value:
        if key not in _KEYS:
            raise DatasetError(
                f"{place}: unknown key {key!r}; keep what is not one of {', '.join(_KEYS)} in 'attributes'"
            )
    for key in ("file_name", *_NAMES, "pool"):
        if not isinstance(value[key], str) or not value[key].strip():
            raise DatasetError(f"{place}: key {key!r}: got {value[key]!r}; write a string that is not empty")
    _check_name(value["file_name"], place)
    if value["pool"] not in POOLS:
        raise DatasetError(f"{place}: key 'pool': got {value['pool']!r}; use one of {', '.join(POOLS)}")
    texts = [value["text"]] if isinstance(value["text"], str) else value["text"]
    if not isinstance(texts, list) or not texts or not all(map(_is_text, texts)):
        raise DatasetError(
            f"{place}: key 'text': got {value['text']!r}; write a caption, or a list of captions"
        )
    attributes = value.get("attributes")
    attributes = {} if attributes is None else attributes
    if not isinstance(attributes, dict):
        raise DatasetError(f"{place}: key 'attributes': got {attributes!r}; write an object, or leave it out")
    names = {key: value[key] for key in _NAMES}
    return Record(
        file_name=value["file_name"], text=tuple(texts), pool=value["pool"], attributes=attributes, **names
    )


def _check_name(name: str, place: str) -> None:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or str(path) != name
        or name in (".", METADATA)
        or any(character in name for character in "\\:\0\n")
    ):
        raise DatasetError(
            f"{place}: key 'file_name': got {name!r}; write a path inside the folder, such as 'images/a.png'"
        )


def _check_image(base: Path, record: Record, place: str, *, decode: bool) -> None:
    real = Path(os.path.realpath(base / record.file_name))
    if not real.is_relative_to(base):
        raise DatasetError(
            f"{place}: key 'file_name': {record.file_name!r} is a link that leaves the folder; "
            "copy the image into it"
        )
    if not real.is_file():
        if (near := near_name(base, record.file_name)) is not None:
            raise DatasetError(
                f"{place}: key 'file_name': there is no image {record.file_name!r}, but {near!r}, which "
                f"differs {difference(record.file_name, near)}; write the name as the file has it"
            )
        raise DatasetError(
            f"{place}: key 'file_name': there is no image {record.file_name!r}; "
            "restore it or prepare the data again"
        )
    if decode and (fault := image_fault(real)):
        raise DatasetError(
            f"{place}: key 'file_name': {record.file_name!r} cannot be decoded ({fault}); "
            "restore it or prepare the data again"
        )


def image_fault(path: Path) -> str | None:
    """Why a picture cannot be read to its last pixel; None if it can."""
    from promptopt.base.images import ImageFileError, read_image

    try:
        read_image(path)
    except ImageFileError as error:
        return error.problem
    return None


def _check_together(records: list[Record], places: list[str]) -> None:
    """No file twice; no group in two pools."""
    seen: dict[str, str] = {}
    pools: dict[str, tuple[str, str]] = {}
    for record, place in zip(records, places, strict=True):
        if record.file_name in seen:
            raise DatasetError(
                f"{place}: key 'file_name': {record.file_name!r} was already used in "
                f"{seen[record.file_name]}; keep one record for each image and list its captions in 'text'"
            )
        seen[record.file_name] = place
        pool, first = pools.setdefault(record.group, (record.pool, place))
        if pool != record.pool:
            raise DatasetError(
                f"{place}: key 'pool': group {record.group!r} is in {record.pool!r} here and "
                f"in {pool!r} in {first}; keep all images of a group in one pool"
            )
