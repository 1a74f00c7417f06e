"""How far an augmentation set is: a line for each chunk of images, written when the chunk is on the disk."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptopt.augmentation.sources import AugmentationError
from promptopt.augmentation.writers import Piece
from promptopt.base.differences import differences
from promptopt.base.files import to_disk, write_json

logger = logging.getLogger(__name__)

SUMMARY, WORK = "augmentation.json", ".augment"
_JOURNAL, _SETTINGS = "journal.jsonl", "settings.json"


@dataclass
class Progress:
    """Counts of one prompt of a class: attempts made and images kept, and both when its round began."""

    tried: int = 0
    kept: int = 0
    tried_before: int = 0
    kept_before: int = 0


@dataclass
class _Class:
    """Counts of a class: its round, images removed by each filter, checksum of the features kept."""

    round: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    features: int = 0


class Journal:
    """The file, read once on resuming; memory holds counts alone.

    A line is `{"n": i, "class": c, "round": r, "tried": [[p, n], ...], "kept": [[p, n], ...],
    "removed": {...}, "rows": [...], "pieces": [...], "features": f, "state": {...}, "crc": ...}`, the counts
    being those of its chunk, by prompt. A line that is cut, of an earlier version, damaged or there twice, or
    whose images are not on the disk as they were written, is made again with all that follows it, in the same
    chunks: so an interrupted or damaged set ends with the bytes of any other.
    """

    def __init__(self, folder: Path) -> None:
        self.work = folder / WORK
        self._path = self.work / _JOURNAL
        self.prompts: dict[tuple[int, int], Progress] = {}
        self.state: dict[str, int] | None = None
        self._lines = 0
        self._classes: defaultdict[int, _Class] = defaultdict(_Class)

    def open(self, settings: Mapping[str, Any], *, intact: Callable[[Piece], bool]) -> None:
        """Begin, or read what is there.

        Args:
            intact: whether a piece of a file is as it was written.

        Raises:
            AugmentationError: it was begun with other settings (they are listed).
        """
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / _SETTINGS
        if path.exists():
            refuse_other(self.work.parent, read_settings(path), settings)
        else:
            write_json(path, settings, sort_keys=True)
        if not self._path.exists():
            return
        whole = 0
        with self._path.open("rb") as stream:
            for content in stream:
                line = self._line(content)
                if line is None or not all(intact(Piece(*piece)) for piece in line["pieces"]):
                    logger.warning(
                        "%s: what was made from chunk %d on is not whole; it is made again",
                        self.work.parent, self._lines + 1,
                    )  # fmt: skip
                    break
                whole += len(content)
                self._count(line)
        with self._path.open("r+b") as stream:
            stream.truncate(whole)
            os.fsync(stream.fileno())

    def _line(self, content: bytes) -> dict[str, Any] | None:
        """The next line; None where it is not that, or damaged."""
        try:
            line: dict[str, Any] = json.loads(content) if content.endswith(b"\n") else {}
            crc = line.pop("crc")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        own = crc == zlib.crc32(_dump(line)) and line["n"] == self._lines
        return line if own and "round" in line else None

    def at(self, number: int, prompt: int) -> Progress:
        """Of one prompt of a class."""
        return self.prompts.setdefault((number, prompt), Progress())

    def kept(self, number: int) -> int:
        """Images kept of a class."""
        return sum(one.kept for (own, _), one in self.prompts.items() if own == number)

    def removed(self, number: int) -> Counter[str]:
        """Images removed of a class, by filter."""
        return self._classes[number].removed

    def round(self, number: int) -> int:
        """Of a class: the first is 1; 0 before it has begun."""
        return self._classes[number].round

    def begin_round(self, number: int) -> None:
        """What the next lines of a class count comes after what there is now."""
        self._classes[number].round += 1
        for (own, _), one in self.prompts.items():
            if own == number:
                one.tried_before, one.kept_before = one.tried, one.kept

    def tried(self, number: int) -> int:
        """Images made for a class."""
        return sum(one.tried for (own, _), one in self.prompts.items() if own == number)

    def features(self, number: int) -> int:
        """Checksum of the features of the images kept of a class."""
        return self._classes[number].features

    def add(self, line: Mapping[str, Any]) -> None:
        """Note a chunk whose images are on the disk."""
        own = json.loads(_dump({"n": self._lines, **line}))
        with self._path.open("ab") as stream:
            stream.write(_dump({**own, "crc": zlib.crc32(_dump(own))}) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        if not self._lines:
            to_disk(self.work)
        self._count(own)

    def rows(self, number: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows of all images kept, or of those of a class, one at a time."""
        for line in self._all():
            if number in (None, line["class"]):
                yield from line["rows"]

    def pieces(self) -> Iterator[Piece]:
        """What was written, one at a time."""
        for line in self._all():
            yield from (Piece(*piece) for piece in line["pieces"])

    def _all(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as stream:
                yield from map(json.loads, stream)

    def _count(self, line: Mapping[str, Any]) -> None:
        number = line["class"]
        if line["round"] != self._classes[number].round:
            self.begin_round(number)
        for prompt, count in line["tried"]:
            self.at(number, prompt).tried += count
        for prompt, count in line["kept"]:
            self.at(number, prompt).kept += count
        self._classes[number].removed.update(line["removed"])
        self._classes[number].features = line["features"]
        self.state = line["state"]
        self._lines += 1


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a set that was begun.

    Raises:
        AugmentationError: they cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        fault: object = "it holds no mapping"
    except (OSError, ValueError) as error:
        fault = error
    raise AugmentationError(f"{path}: cannot be read ({fault}); remove the folder, or choose another")


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def refuse_other(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compare the settings of a folder with those asked for.

    Raises:
        AugmentationError: lists what differs.
    """
    now = json.loads(json.dumps(new))
    differing = differences(old, now)
    if differing:
        raise AugmentationError(
            f"{folder}: holds a set made with other settings:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nChoose another folder, put the settings back, or replace the set (--force)."
        )
