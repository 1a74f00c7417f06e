"""How far an augmentation set is: a line for each chunk of images, written when the chunk is on the disk."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptopt.augmentation.sources import AugmentationError
from promptopt.base.files import write_json

SUMMARY, WORK = "augmentation.json", ".augment"
_JOURNAL, _SETTINGS = "journal.jsonl", "settings.json"


@dataclass
class Progress:
    """Counts of one prompt of a class: attempts made, images kept, images removed by each filter."""

    tried: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)


class Journal:
    """The file, read once on resuming; memory holds counts alone.

    A line is `{"class": c, "prompt": p, "tried": n, "removed": {...}, "rows": [...], "state": {...}}`, the
    counts being those of its chunk. Whatever follows the last whole line is a chunk that is made again,
    in the same chunk: so an interrupted set ends with the bytes of an uninterrupted one.
    """

    def __init__(self, folder: Path) -> None:
        self.work = folder / WORK
        self._path = self.work / _JOURNAL
        self.prompts: dict[tuple[int, int], Progress] = {}
        self.state: dict[str, int] | None = None

    def open(self, settings: Mapping[str, Any]) -> None:
        """Begin, or read what is there.

        Raises:
            AugmentationError: it was begun with other settings (they are listed).
        """
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / _SETTINGS
        if path.exists():
            refuse_other(self.work.parent, json.loads(path.read_text(encoding="utf-8")), settings)
        else:
            write_json(path, settings, sort_keys=True)
        if not self._path.exists():
            return
        whole = 0
        with self._path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                self._count(json.loads(line))
        with self._path.open("r+b") as stream:
            stream.truncate(whole)

    def at(self, number: int, prompt: int) -> Progress:
        """Of one prompt of a class."""
        return self.prompts.setdefault((number, prompt), Progress())

    def kept(self, number: int) -> int:
        """Images kept of a class."""
        return sum(one.kept for (own, _), one in self.prompts.items() if own == number)

    def removed(self, number: int) -> Counter[str]:
        """Images removed of a class, by filter."""
        total: Counter[str] = Counter()
        for (own, _), one in self.prompts.items():
            if own == number:
                total.update(one.removed)
        return total

    def tried(self, number: int) -> int:
        """Images made for a class."""
        return sum(one.tried for (own, _), one in self.prompts.items() if own == number)

    def add(self, line: Mapping[str, Any]) -> None:
        """Note a chunk whose images are written."""
        with self._path.open("ab") as stream:
            stream.write(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._count(line)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of all images kept, one at a time."""
        if self._path.exists():
            with self._path.open("rb") as stream:
                for line in stream:
                    yield from json.loads(line)["rows"]

    def _count(self, line: Mapping[str, Any]) -> None:
        own = self.at(line["class"], line["prompt"])
        own.tried += line["tried"]
        own.kept += len(line["rows"])
        own.removed.update(line["removed"])
        self.state = line["state"]


def refuse_other(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compare the settings of a folder with those asked for.

    Raises:
        AugmentationError: lists what differs.
    """
    now = json.loads(json.dumps(new))
    differing = _differences(old, now)
    if differing:
        raise AugmentationError(
            f"{folder}: holds a set made with other settings:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nChoose another folder, put the settings back, or replace the set (--force)."
        )


def _differences(old: Any, new: Any, place: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            found += _differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
        return found
    return [] if old == new else [f"{place}: {_short(old)} -> {_short(new)}"]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
