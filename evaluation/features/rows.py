"""Feature vectors in files that only grow: keys in one, rows in the other, side by side.

A segment has one writer at a time, who holds its lock; with several writers there are several segments. A row
counts once its key is written, so a process that is killed leaves a tail that the next writer overwrites.
Every key has a checksum over itself and its row. No file is ever rewritten, so readers need no lock, and any
file system that keeps the order of one writer's writes will do, shared ones too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptopt.base.locks import LockedError, hold

_KEY = np.dtype([("digest", "V32"), ("checksum", "<u4")])
_AT_ONCE = 1024  # rows read at a time


class Rows:
    """Vectors of one dimension by 32-byte digests, in a folder of segments.

    Memory is 16 bytes a stored vector for the index. A look-up is a binary search.

    Args:
        folder: made by the first `append`.
        dim: floats a vector.

    Example:
        >>> import tempfile
        >>> rows, key = Rows(Path(tempfile.mkdtemp()), 2), b"k" * 32
        >>> rows.append([key], np.array([[1.0, 2.0]], dtype=np.float32))
        >>> out = np.zeros((1, 2), dtype=np.float32)
        >>> rows.read([key], out).tolist(), out.tolist()
        ([True], [[1.0, 2.0]])
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self._folder = folder
        self._dim = dim
        self._segments: dict[Path, _Segment] = {}

    def read(self, digests: Sequence[bytes], out: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Fill the rows of `out` (n, dim) that are there; which ones these are, shape (n,).

        A vector whose checksum is wrong counts as not there. Raises OSError where a file cannot be read.
        """
        there = np.zeros(len(digests), dtype=bool)
        wanted = np.frombuffer(b"".join(digests), dtype="V32")
        self._look_around()
        for segment in self._segments.values():
            missing = np.flatnonzero(~there)
            if not len(missing):
                break
            there[missing] = segment.read(wanted[missing], out, missing)
        return there

    def append(self, digests: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Add vectors (n, dim) at the end. Raises OSError where they cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = np.ascontiguousarray(rows, dtype="<f4")
        keys = np.empty(len(digests), dtype=_KEY)
        keys["digest"] = np.frombuffer(b"".join(digests), dtype="V32")
        keys["checksum"] = [_sum(key, row.tobytes()) for key, row in zip(digests, content, strict=True)]
        with _free(self._folder) as path:
            path.touch()
            path.with_suffix(".rows").touch()
            with path.open("r+b") as key_file, path.with_suffix(".rows").open("r+b") as row_file:
                count = _whole(path, self._dim)
                row_file.seek(count * 4 * self._dim)
                row_file.write(content.tobytes())
                row_file.truncate()
                row_file.flush()
                key_file.seek(count * _KEY.itemsize)
                key_file.write(keys.tobytes())
                key_file.truncate()

    def __len__(self) -> int:
        """Distinct keys. Reads all of them."""
        files = sorted(self._folder.glob("*.keys"))
        found = [np.fromfile(path, dtype=_KEY, count=_whole(path, self._dim))["digest"] for path in files]
        return len({key.tobytes() for part in found for key in part})

    def _look_around(self) -> None:
        for path in sorted(self._folder.glob("*.keys")):
            if path not in self._segments:
                self._segments[path] = _Segment(path, self._dim)


class _Segment:
    def __init__(self, path: Path, dim: int) -> None:
        self._path = path
        self._dim = dim
        self._known = 0
        # Sorted runs of (first 8 bytes of the digest, row). Neighbors of like size are merged, so that adding
        # n keys a few at a time costs n log n.
        self._runs: list[tuple[NDArray[np.uint64], NDArray[np.uint32]]] = []

    def read(
        self, wanted: NDArray[np.void], out: NDArray[np.float32], places: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        self._refresh()
        heads, there = _heads(wanted), np.zeros(len(wanted), dtype=bool)
        for own, rows in reversed(self._runs):
            at = np.searchsorted(own, heads, side="right") - 1
            hits = np.flatnonzero((at >= 0) & (own[at] == heads) & ~there)
            hits = hits[np.argsort(rows[at[hits]], kind="stable")]
            self._fill(wanted, hits, rows[at[hits]].astype(np.int64), out, places, there)
        return there

    def _fill(
        self,
        wanted: NDArray[np.void],
        hits: NDArray[np.intp],
        rows: NDArray[np.int64],
        out: NDArray[np.float32],
        places: NDArray[np.intp],
        there: NDArray[np.bool_],
    ) -> None:
        """Read rows in the order in which they lie, neighbors together."""
        size = 4 * self._dim
        if not len(hits):
            return
        with self._path.open("rb") as key_file, self._path.with_suffix(".rows").open("rb") as row_file:
            for start, end in _stretches(rows):
                first, count = int(rows[start]), int(rows[end - 1] - rows[start]) + 1
                key_file.seek(first * _KEY.itemsize)
                row_file.seek(first * size)
                keys, content = key_file.read(count * _KEY.itemsize), row_file.read(count * size)
                for index in range(start, end):
                    offset = int(rows[index]) - first
                    key = keys[offset * _KEY.itemsize : (offset + 1) * _KEY.itemsize]
                    row = content[offset * size : (offset + 1) * size]
                    hit = hits[index]
                    digest, checksum = wanted[hit].tobytes(), int.from_bytes(key[32:], "little")
                    if key[:32] == digest and len(row) == size and _sum(digest, row) == checksum:
                        out[places[hit]] = np.frombuffer(row, dtype="<f4")
                        there[hit] = True

    def _refresh(self) -> None:
        count = _whole(self._path, self._dim)
        if count <= self._known:
            return
        new = np.fromfile(
            self._path, dtype=_KEY, count=count - self._known, offset=self._known * _KEY.itemsize
        )
        self._runs.append(_sorted(_heads(new["digest"]), np.arange(self._known, count, dtype=np.uint32)))
        self._known = count
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            (one, first), (other, second) = self._runs[-2:]
            self._runs[-2:] = [_sorted(np.concatenate([one, other]), np.concatenate([first, second]))]


def _heads(digests: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.frombuffer(digests.tobytes(), dtype=">u8")[::4].astype(np.uint64)


def _sorted(
    heads: NDArray[np.uint64], rows: NDArray[np.uint32]
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    order = np.argsort(heads, kind="stable")  # of equal ones the newest is the last
    return heads[order], rows[order]


def _stretches(rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Parts of ascending row numbers that are read in one go: no gaps, and not too long."""
    ends = [*(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    start = 0
    for end in ends:
        for part in range(start, end, _AT_ONCE):
            yield part, min(part + _AT_ONCE, end)
        start = end


def _whole(path: Path, dim: int) -> int:
    """Vectors of a segment that are complete: key and row."""
    rows = path.with_suffix(".rows")
    keys = path.stat().st_size // _KEY.itemsize
    return min(keys, rows.stat().st_size // (4 * dim)) if rows.exists() else 0


def _sum(digest: bytes, row: bytes) -> int:
    return zlib.crc32(row, zlib.crc32(digest))


@contextmanager
def _free(folder: Path) -> Iterator[Path]:
    """The key file of a segment that nobody else writes."""
    number = 0
    while True:
        path = folder / f"{number:04d}.keys"
        try:
            lock = hold(path.with_suffix(".lock"))
            lock.__enter__()
        except LockedError:
            number += 1
            continue
        try:
            yield path
        finally:
            lock.__exit__(None, None, None)
        return
