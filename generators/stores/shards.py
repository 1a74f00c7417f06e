"""A store of shards behind a URL: webdataset tar files, each with an index that makes it count."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from generators.errors import StoreError
from generators.png import png_fault
from generators.request import ImageRequest
from generators.store import StoredImage, checked_png
from generators.stores.address import StoreUrl
from generators.stores.bucket import Bucket
from generators.stores.url_store import UrlStore, said_damaged

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

SHARD_BYTES = 64 * 2**20
"""Bytes of images after which a shard is closed; a batch that ends before makes a smaller one."""


@dataclass(frozen=True, slots=True)
class _Place:
    tar: str
    start: int
    size: int


class ShardStore(UrlStore):
    """Images in <digest>.tar (KEY.png and KEY.json, as webdataset reads them) and its index, <digest>.jsonl.

    Millions of images are some thousand objects. An image that was put lies in `root` at once and in a shard
    after `flush`, which `fetch` calls; the index is written last, and a shard without one does not count.
    What a killed process left in `root` goes into a shard when it is next asked for on that machine.

    Example:
        >>> from PIL import Image
        >>> from generators import load
        >>> store = ShardStore(StoreUrl.parse("shards::memory://example/images"))
        >>> request = load("embedded", device="cpu").request("a polyp", 7)
        >>> _ = store.put(request, Image.new("RGB", (64, 64), "red"))
        >>> store.flush()
        >>> ShardStore(store.url).has(request)
        True
    """

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        self._index = _Index(self._bucket)
        self._lock = threading.Lock()
        self._pending: dict[str, ImageRequest] = {}
        self._bytes = 0

    def get(self, request: ImageRequest) -> StoredImage | None:
        """See `UrlStore.get`."""
        found = super().get(request)
        if found is not None and not self._index.knows(request.key):
            self._wait(request, found.path.stat().st_size)
        return found

    def put(self, request: ImageRequest, image: Image.Image) -> StoredImage:
        """Stores the image here, to go into the next shard. Raises as `Store.put`."""
        stored = self._local.put_png(request, content := checked_png(request, image))
        if self._wait(request, len(content)) >= SHARD_BYTES:
            self.flush()
        return stored

    def flush(self) -> None:
        """Put what waits into a shard, then its index. What could not be put waits for the next call."""
        with self._lock:
            waiting, self._pending, self._bytes = self._pending, {}, 0
        try:
            files = [(key, self._local.path(waiting[key])) for key in sorted(waiting)]
            self._put([(key, path) for key, path in files if path.exists()], waiting)
        except BaseException:
            with self._lock:
                self._pending = waiting | self._pending
            raise

    def _wait(self, request: ImageRequest, size: int) -> int:
        with self._lock:
            if request.key not in self._pending:
                self._pending[request.key] = request
                self._bytes += size
            return self._bytes

    def _put(self, files: list[tuple[str, Path]], requests: dict[str, ImageRequest]) -> None:
        if not files:
            return
        content, places = _shard(files, requests)
        name = hashlib.sha256(content).hexdigest()[:32]
        self._bucket.write(f"{name}.tar", content)
        lines = [json.dumps({"key": key, "start": start, "size": size}) for key, start, size in places]
        self._bucket.write(f"{name}.jsonl", ("\n".join(lines) + "\n").encode("ascii"))
        self._index.add(name, places)

    def _there(self, requests: set[ImageRequest]) -> set[ImageRequest]:
        self._index.refresh()
        return {request for request in requests if request.key in self._index}

    def _download(self, request: ImageRequest) -> StoredImage | None:
        if request.key not in self._index:
            self._index.refresh()
        damaged: list[tuple[str, bytes, str]] = []
        for place in self._index.places(request.key):
            content = self._bucket.read(f"{place.tar}.tar", start=place.start, end=place.start + place.size)
            fault = png_fault(content or b"", request)
            if fault is None:
                return self._local.put_png(request, content or b"")
            damaged.append((f"{self.address}/{place.tar}.tar, {request.key}.png", content or b"", fault))
        for where, content, fault in damaged:
            said_damaged(where, content, fault)
        return None


class _Index:
    """Which shard has an image, from the index files that are there; each is read once."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._read: set[str] = set()
        self._refreshed = False
        self._places: dict[str, tuple[_Place, ...]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def knows(self, key: str) -> bool:
        """Whether it has the image, of what there was when it was last refreshed."""
        if not self._refreshed:
            self.refresh()
        return key in self._places

    def places(self, key: str) -> tuple[_Place, ...]:
        return self._places.get(key, ())

    def add(self, name: str, places: list[tuple[str, int, int]]) -> None:
        with self._lock:
            if name in self._read:
                return
            self._read.add(name)
            for key, start, size in places:
                self._places[key] = (*self._places.get(key, ()), _Place(name, start, size))

    def refresh(self) -> None:
        """Read the index files that have come since."""
        for file in sorted(self._bucket.list("")):
            name = file.removesuffix(".jsonl")
            if name == file or name in self._read:
                continue
            try:
                self.add(name, list(_lines((self._bucket.read(file) or b"").decode("ascii"))))
            except (ValueError, KeyError, TypeError) as error:
                logger.warning(
                    "%s/%s is damaged (%s); the images of its shard will be made again",
                    self._bucket.url, file, error,
                )  # fmt: skip
                self.add(name, [])
        self._refreshed = True


def _lines(text: str) -> Iterator[tuple[str, int, int]]:
    for line in text.splitlines():
        values = json.loads(line)
        yield str(values["key"]), int(values["start"]), int(values["size"])


def _shard(
    files: list[tuple[str, Path]], requests: dict[str, ImageRequest]
) -> tuple[bytes, list[tuple[str, int, int]]]:
    """A tar file whose bytes depend on its images alone, and where in it they lie."""
    buffer, places = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for key, path in files:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
            for name, part in ((f"{key}.png", content), (f"{key}.json", requests[key].to_json().encode())):
                info = tarfile.TarInfo(name)
                info.size = len(part)
                if name.endswith(".png"):
                    places.append((key, archive.offset + tarfile.BLOCKSIZE, len(part)))
                archive.addfile(info, io.BytesIO(part))
    return buffer.getvalue(), places
