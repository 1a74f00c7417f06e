"""What of a synthesis lies in its folder: keys, checksums, sizes, times; so that no picture is read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from promptopt.synthesis.folder import IMAGES

if TYPE_CHECKING:
    from generators.store import StoredImage
    from promptopt.synthesis.plan import Item

INDEX, _PARTIAL = ".index.tsv", ".index.partial"


class Index:
    """A line an image, in the order of the plan: what was there before is read along with it, not held.

    As git's index does, it takes a file for unchanged that has the size and the time it had: one that was
    touched is read and compared. Images may be added to a plan, between others, but none taken away.

    Args:
        folder: of the synthesis.
    """

    def __init__(self, folder: Path) -> None:
        self._images = folder / IMAGES
        self._path, self._partial = folder / INDEX, folder / _PARTIAL
        if _lines(self._partial) > _lines(self._path):  # of a run that was killed
            self._partial.replace(self._path)
        self._earlier = _entries(self._path)
        self._next = next(self._earlier, None)

    def __enter__(self) -> Index:
        self._stream = self._partial.open("w", encoding="utf-8")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if _lines(self._partial) >= _lines(self._path):
            self._partial.replace(self._path)

    def checksum(self, item: Item) -> str | None:
        """sha256 of an image that lies there as it did; to be asked in the order of the plan."""
        if self._next is None or self._next[0] != item.name:
            return None
        _, key, sha256, *seen = self._next
        self._next = next(self._earlier, None)
        return sha256 if key == item.request.key and seen == _seen(self._images / item.name) else None

    def add(self, item: Item, image: StoredImage) -> None:
        """Note an image that lies there; in the order of the plan."""
        fields = [item.name, item.request.key, image.sha256, *_seen(self._images / item.name)]
        self._stream.write("\t".join(fields) + "\n")


def _seen(path: Path) -> list[str]:
    """Size and time of a file; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [str(found.st_size), str(found.st_mtime_ns)]


def _entries(path: Path) -> Iterator[list[str]]:
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.endswith("\n") and len(fields := line[:-1].split("\t")) == 5:
                    yield fields


def _lines(path: Path) -> int:
    return sum(1 for _ in _entries(path))
