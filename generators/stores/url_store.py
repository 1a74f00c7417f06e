"""A store behind a URL: one object an image, with a folder of this machine's copies before it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from generators.errors import StoreError
from generators.png import png_fault
from generators.request import ImageRequest
from generators.store import ImageStore, StoredImage, checked_png
from generators.stores.address import StoreUrl
from generators.stores.bucket import Bucket

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

_THREADS = 16  # a bucket answers after tens of milliseconds, however many ask
_AT_ONCE = 256
_FEW = 4  # names of one folder that are asked for one by one; above, it is listed


class UrlStore:
    """Images below a URL as ab/<key>.png, the files of a folder store without its side files.

    An object is put whole or not at all, and has its request and its checksums inside, so it is complete in
    itself. What was read or written on this machine lies in `root`, verified whenever it is used.

    Example:
        >>> from PIL import Image
        >>> from generators import load
        >>> store = UrlStore(StoreUrl.parse("memory://example/images"))
        >>> request = load("embedded", device="cpu").request("a polyp", 7)
        >>> store.put(request, Image.new("RGB", (64, 64), "red")).load().getpixel((0, 0))
        (255, 0, 0)
        >>> store.has(request)
        True
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self.address = str(url)
        self.root = url.folder
        self._local = ImageStore(self.root)
        self._bucket = Bucket(url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def path(self, request: ImageRequest) -> Path:
        """Where this machine's copy lies, once there is one."""
        return self._local.path(request)

    def has(self, request: ImageRequest) -> bool:
        """Whether it is here or there, by name and size."""
        return bool(self.has_many([request]))

    def has_many(self, requests: Iterable[ImageRequest]) -> set[ImageRequest]:
        """Those that `has` is true of: whole folders are listed where many of their names are asked for."""
        asked = set(requests)
        here = self._local.has_many(asked)
        return here | self._there(asked - here)

    def get(self, request: ImageRequest) -> StoredImage | None:
        """The image, from this machine's copy or from the URL; None when there is none or it is damaged."""
        found = self._local.verified(request)
        if isinstance(found, StoredImage):
            return found
        there = self._download(request)
        if there is None and found is not None:
            logger.warning("%s; the image will be made again", found)
        return there

    def get_many(self, requests: Iterable[ImageRequest]) -> Iterator[StoredImage | None]:
        """`get` of each, in their order, several at a time; what is not listed is not asked for."""
        rest = iter(requests)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="image-store") as pool:
            while part := list(islice(rest, _AT_ONCE)):
                there = self.has_many(part)
                yield from pool.map(lambda one, there=there: self.get(one) if one in there else None, part)

    def put(self, request: ImageRequest, image: Image.Image) -> StoredImage:
        """Stores the image at the URL, then here. Raises as `Store.put`."""
        content = checked_png(request, image)
        self._bucket.write(_name(request), content)
        return self._local.put_png(request, content)

    def made(self, request: ImageRequest, sha256: str) -> StoredImage:
        """An image that another process has put, perhaps on another machine."""
        if self._local.has(request):
            return self._local.made(request, sha256)
        found = self.get(request)
        if found is None or found.sha256 != sha256:
            raise StoreError(
                f"{self.address}/{_name(request)}: was made elsewhere, and is not there or another one",
                remedy="Let all machines use the same bucket.",
            )
        return found

    def flush(self) -> None:
        """Every object is in its place already."""

    def _there(self, requests: set[ImageRequest]) -> set[ImageRequest]:
        folders: dict[str, list[ImageRequest]] = {}
        for request in requests:
            folders.setdefault(request.key[:2], []).append(request)

        def look(folder: str) -> list[ImageRequest]:
            wanted = folders[folder]
            if len(wanted) <= _FEW:
                return [one for one in wanted if self._bucket.size(_name(one)) > 0]
            listed = self._bucket.list(folder)
            return [one for one in wanted if listed.get(_name(one), 0) > 0]

        if len(folders) == 1:
            return set(look(next(iter(folders))))
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="image-store") as pool:
            return {one for some in pool.map(look, folders) for one in some}

    def _download(self, request: ImageRequest) -> StoredImage | None:
        content = self._bucket.read(_name(request))
        if content is None:
            return None
        if fault := png_fault(content, request):
            said_damaged(f"{self.address}/{_name(request)}", content, fault)
            return None
        return self._local.put_png(request, content)


def said_damaged(where: str, content: bytes, fault: str) -> None:
    """Log that an image will be made again."""
    digest = hashlib.sha256(content).hexdigest()
    logger.warning("%s is damaged (%s, sha256 %s); the image will be made again", where, fault, digest)


def _name(request: ImageRequest) -> str:
    return f"{request.key[:2]}/{request.key}.png"
