"""What of a synthesis lies in its folder: keys, checksums, sizes, times; so that no picture is read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from promptopt.synthesis.folder import IMAGES

if TYPE_CHECKING:
    from promptopt.synthesis.plan import Item

INDEX, _PARTIAL = ".index.tsv", ".index.partial"


class Entry(NamedTuple):
    """A line: name, key of the request, sha256 of the file, its size in bytes, its time in nanoseconds."""

    name: str
    key: str
    sha256: str
    size: str
    time: str


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

    def unchanged(self, item: Item) -> Entry | None:
        """The line of an image that lies there as it did; to be asked in the order of the plan."""
        earlier = self._next
        if earlier is None or earlier.name != item.name:
            return None
        self._next = next(self._earlier, None)
        try:
            return earlier if earlier == self.entry(item, earlier.sha256) else None
        except OSError:  # it is gone
            return None

    def entry(self, item: Item, sha256: str) -> Entry:
        """The line of an image that lies there now. Raises OSError where there is none."""
        there = (self._images / item.name).stat()
        return Entry(item.name, item.request.key, sha256, str(there.st_size), str(there.st_mtime_ns))

    def add(self, entry: Entry) -> None:
        """Write a line; in the order of the plan."""
        self._stream.write("\t".join(entry) + "\n")


def _entries(path: Path) -> Iterator[Entry]:
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.endswith("\n") and len(fields := line[:-1].split("\t")) == 5:
                    yield Entry(*fields)


def _lines(path: Path) -> int:
    return sum(1 for _ in _entries(path))
