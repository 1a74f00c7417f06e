"""How an augmentation set lies on the disk: an imagefolder, or webdataset shards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import promptopt
from generators.png import web_ui_parameters
from generators.request import ImageRequest
from promptopt.base import naming
from promptopt.base.files import to_disk

SHARDS = "shards"
IN_A_FOLDER = 10_000
"""Files in one folder, at most."""
_BLOCK = tarfile.BLOCKSIZE
_THREADS = min(4, os.cpu_count() or 1)


def slug(name: str) -> str:
    """A class's name as a folder's: letters, digits, '-' and '_'."""
    return naming.slug(name, keep="_", empty="class")


def texts(request: ImageRequest, provenance: Mapping[str, Any]) -> dict[str, str]:
    """What a PNG of the set says that it is: `request` and `provenance` are JSON, in ASCII."""
    return {
        "synthetic": "true",
        "Software": f"promptopt {promptopt.__version__}",
        "request": request.to_json(),
        "parameters": web_ui_parameters(request),
        "provenance": json.dumps(provenance, sort_keys=True, separators=(",", ":")),
    }


@dataclass(frozen=True)
class Entry:
    """One image as it is written: its class's folder, its number there (from 1), the PNG and its row."""

    group: str
    number: int
    content: bytes
    row: dict[str, Any]

    @property
    def key(self) -> str:
        return f"{self.group}-{self.number:06d}"


@dataclass(frozen=True)
class Piece:
    """A part of a file as it was written: its name within the set, and the sha256 of its bytes."""

    file: str
    start: int
    size: int
    sha256: str


class Writer(Protocol):
    """Appends images; `state` is all that is needed to go on from a point, after whatever came later."""

    def resume(self, state: Mapping[str, int]) -> None: ...

    def add(self, entry: Entry) -> str:
        """Write it; returns its file's name within the set."""
        ...

    def settle(self) -> list[Piece]:
        """Wait until all that was added since the last call is on the disk; says what that is."""
        ...

    def intact(self, piece: Piece) -> bool:
        """Whether a piece is on the disk as it was written."""
        ...

    def read(self, name: str) -> bytes:
        """The image of a name that `add` gave."""
        ...

    def state(self) -> dict[str, int]: ...

    def finish(self) -> None: ...


class FolderWriter:
    """CLASS/CLASS-000001.png. An image written beyond the last state is written again, the same.

    Args:
        large: classes' folders of more than `IN_A_FOLDER` images, which get folders of so many each within
            (CLASS/00000/CLASS-000001.png): file managers and shared disks are slow with more.
    """

    def __init__(self, folder: Path, *, large: Collection[str] = ()) -> None:
        self._folder, self._large = folder, frozenset(large)
        self._waiting: list[tuple[str, bytes]] = []

    def resume(self, state: Mapping[str, int]) -> None:
        """Nothing to put back."""

    def add(self, entry: Entry) -> str:
        part = f"{(entry.number - 1) // IN_A_FOLDER:05d}/" if entry.group in self._large else ""
        name = f"{entry.group}/{part}{entry.key}.png"
        self._waiting.append((name, entry.content))
        return name

    def settle(self) -> list[Piece]:
        waiting, self._waiting = self._waiting, []
        folders = sorted({(self._folder / name).parent for name, _ in waiting})
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_THREADS) as pool:
            pieces = list(pool.map(lambda own: self._write(*own), waiting))
        for folder in folders:
            to_disk(folder)
        return pieces

    def _write(self, name: str, content: bytes) -> Piece:
        path = self._folder / name
        path.write_bytes(content)
        to_disk(path)
        return Piece(name, 0, len(content), hashlib.sha256(content).hexdigest())

    def intact(self, piece: Piece) -> bool:
        path = self._folder / piece.file
        return is_piece(path, piece) and path.stat().st_size == piece.size

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def state(self) -> dict[str, int]:
        return {}

    def finish(self) -> None:
        """Nothing is open."""


def is_piece(path: Path, piece: Piece) -> bool:
    """Whether these bytes lie in a file."""
    try:
        with path.open("rb") as stream:
            stream.seek(piece.start)
            return hashlib.sha256(stream.read(piece.size)).hexdigest() == piece.sha256
    except OSError:
        return False


class ShardWriter:
    """shards/augmentation-000000.tar with KEY.png and KEY.json; equal content gives equal bytes.

    A shard grows as `.partial`; resuming cuts it off where the last state has it.
    """

    def __init__(self, folder: Path, *, size: int) -> None:
        self._folder = folder / SHARDS
        self._size = size
        self._shard = self._images = self._offset = 0
        self._stream: BinaryIO | None = None
        self._pieces: dict[str, tuple[int, int, Any]] = {}
        self._ends: dict[int, int] = {}

    def _path(self, shard: int) -> Path:
        return self._folder / f"augmentation-{shard:06d}.tar"

    def _partial(self, shard: int) -> Path:
        return self._folder / f".augmentation-{shard:06d}.tar.partial"

    def resume(self, state: Mapping[str, int]) -> None:
        self._shard, self._images, self._offset = (state[key] for key in ("shard", "images", "offset"))
        for path in self._folder.glob("*augmentation-*.tar*"):
            found = re.search(r"augmentation-(\d+)\.tar", path.name)
            if found and int(found[1]) > self._shard:
                path.unlink()
        whole, partial = self._path(self._shard), self._partial(self._shard)
        if whole.exists():  # sealed after the state was noted
            whole.replace(partial)
        if self._offset or partial.exists():
            with partial.open("r+b") as stream:
                stream.truncate(self._offset)
        for shard in range(self._shard):  # the end of a shard belongs to no image
            with self._path(shard).open("r+b") as stream:
                stream.truncate(self._ends[shard])
                stream.seek(0, os.SEEK_END)
                stream.write(_end(self._ends[shard]))

    def add(self, entry: Entry) -> str:
        if self._images == self._size:
            self._seal()
        if self._stream is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._stream = self._partial(self._shard).open("ab")
        row = {key: value for key, value in entry.row.items() if key not in ("file_name", "group", "pool")}
        side = json.dumps({"synthetic": True, **row}, sort_keys=True).encode("ascii")
        for suffix, content in (("png", entry.content), ("json", side)):
            self._append(f"{entry.key}.{suffix}", content)
        self._images += 1
        return f"{SHARDS}/{self._path(self._shard).name}#{entry.key}.png"

    def _append(self, name: str, content: bytes) -> None:
        assert self._stream is not None  # for the type checker: add() opened it
        info = tarfile.TarInfo(name)  # owner 0, time 0, mode 0o644
        info.size = len(content)
        header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
        record = header + content + b"\0" * (-len(content) % _BLOCK)
        self._stream.write(record)
        own = f"{SHARDS}/{self._path(self._shard).name}"
        start, size, digest = self._pieces.setdefault(own, (self._offset, 0, hashlib.sha256()))
        digest.update(record)
        self._pieces[own] = (start, size + len(record), digest)
        self._offset += len(record)

    def settle(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, {}
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            to_disk(self._folder)
        return [Piece(name, start, size, own.hexdigest()) for name, (start, size, own) in pieces.items()]

    def intact(self, piece: Piece) -> bool:
        whole = self._folder.parent / piece.file
        shard = int(whole.stem.rpartition("-")[2])
        if not any(is_piece(path, piece) for path in (whole, self._partial(shard))):
            return False
        self._ends[shard] = piece.start + piece.size
        return True

    def read(self, name: str) -> bytes:
        file, _, member = name.partition("#")
        whole = self._folder.parent / file
        path = whole if whole.exists() else self._partial(int(whole.stem.rpartition("-")[2]))
        with tarfile.open(path) as archive:
            found = archive.extractfile(member)
            assert found is not None  # a regular file
            return found.read()

    def state(self) -> dict[str, int]:
        return {"shard": self._shard, "images": self._images, "offset": self._offset}

    def _seal(self) -> None:
        if self._stream is None:
            if not self._images:
                return
            self._stream = self._partial(self._shard).open("ab")
        self._stream.write(_end(self._offset))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._stream = None
        self._partial(self._shard).replace(self._path(self._shard))
        self._shard, self._images, self._offset = self._shard + 1, 0, 0

    def finish(self) -> None:
        self._seal()


def _end(offset: int) -> bytes:
    """What ends an archive of so many bytes."""
    end = 2 * _BLOCK
    return b"\0" * (end + -(offset + end) % tarfile.RECORDSIZE)
