"""Content-addressed store of generated images: root/ab/<key>.png beside <key>.json.

The side file is written last and holds the PNG's checksum, so an image counts as stored only when both agree.
A process killed at any moment, a full disk or two writers of one key leave a store that is either right or
repairs itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from PIL import Image

from generators.errors import GeneratorError, StoreError
from generators.png import encode_png
from generators.request import ImageRequest
from promptopt.base.files import file_digest, write_bytes
from promptopt.base.images import read_image

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class StoredImage:
    """An image in the store. `sha256` is the PNG file's checksum (hexadecimal).

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from generators import ImageStore, load
        >>> request = load("embedded", device="cpu").request("a polyp", 7)
        >>> stored = ImageStore(tempfile.mkdtemp()).put(request, Image.new("RGB", (64, 64), "red"))
        >>> stored.load().getpixel((0, 0))
        (255, 0, 0)
    """

    request: ImageRequest
    path: Path
    sha256: str

    def load(self) -> Image.Image:
        """The RGB image. Raises StoreError when the file is gone or no longer what was stored."""
        return read_image(self.path, error=StoreError, content=self.content())

    def content(self) -> bytes:
        """The PNG file's bytes, verified. Raises StoreError as `load`."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be read ({_reason(error)}); fetch the image again"
            ) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise StoreError(f"{self.path}: the file changed since it was stored; fetch the image again")
        return content


@runtime_checkable
class Store(Protocol):
    """Where images are kept, each under its request's key. Any number of threads and processes may share one.

    `ImageStore` is a folder; `generators.stores.open_store` opens the others. `promptopt.testing.StoreSuite`
    holds a store to it.

    Attributes:
        root: the folder in which this machine has the files.
        address: what `open_store` opens it by, on another machine too where that is a URL.
    """

    root: Path

    @property
    def address(self) -> str: ...

    def path(self, request: ImageRequest) -> Path:
        """Where the request's PNG lies on this machine once it was read or written here."""
        ...

    def has(self, request: ImageRequest) -> bool:
        """Whether the store lists an image, by name and size: the picture is not read, so not verified."""
        ...

    def has_many(self, requests: Iterable[ImageRequest]) -> set[ImageRequest]:
        """Those that `has` is true of."""
        ...

    def get(self, request: ImageRequest) -> StoredImage | None:
        """The stored image, verified; None when there is none or it is damaged (which is logged).

        Raises StoreError when the store cannot be read.
        """
        ...

    def get_many(self, requests: Iterable[ImageRequest]) -> Iterator[StoredImage | None]:
        """`get` of each, in their order."""
        ...

    def put(self, request: ImageRequest, image: Image.Image) -> StoredImage:
        """Stores the image whole or not at all, in place of what was stored under the key.

        Raises StoreError when it cannot be written, and GeneratorError when the image's size is not the
        requested one.
        """
        ...

    def made(self, request: ImageRequest, sha256: str) -> StoredImage:
        """An image that another process says it has stored. Raises StoreError where it is not there."""
        ...

    def flush(self) -> None:
        """Called when a batch has been put: what a store has kept back goes where others see it."""
        ...


class ImageStore:
    """Images keyed by everything that can change a pixel. Any number of processes may share one store.

    Example:
        >>> import tempfile
        >>> from generators import fetch, load
        >>> generator, store = load("embedded", device="cpu"), ImageStore(tempfile.mkdtemp())
        >>> requests = [generator.request("a polyp", seed, steps=2) for seed in (1, 2)]
        >>> len(fetch(store, generator, requests)), store.get(requests[0]).path.suffix
        (2, '.png')
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    @property
    def address(self) -> str:
        """The folder's absolute path."""
        return str(self.root.absolute())

    def __repr__(self) -> str:
        return f"ImageStore({str(self.root)!r})"

    def path(self, request: ImageRequest) -> Path:
        """Where the request's PNG lies, stored or not."""
        key = request.key
        return self.root / key[:2] / f"{key}.png"

    def has(self, request: ImageRequest) -> bool:
        """Whether both files are there and not empty; neither is read."""
        path = self.path(request)
        return _size(path) > 0 and _size(path.with_suffix(".json")) > 0

    def has_many(self, requests: Iterable[ImageRequest]) -> set[ImageRequest]:
        """Those that `has` is true of."""
        return {request for request in requests if self.has(request)}

    def get(self, request: ImageRequest) -> StoredImage | None:
        """The stored image, checksum verified; None when there is none or it is damaged (which is logged).

        Raises StoreError when the store cannot be read.
        """
        found = self.verified(request)
        if isinstance(found, str):
            logger.warning("%s; the image will be made again", found)
            return None
        return found

    def verified(self, request: ImageRequest) -> StoredImage | str | None:
        """`get`, with the sentence about a damaged image in its place."""
        path = self.path(request)
        # a picture that this process has read is read again only where the file changed since
        side, digest = _there(path.with_suffix(".json"), Path.read_bytes), _there(path, file_digest)
        if side is None and digest is None:
            return None
        if side is None:  # the writer was stopped between the two files
            return f"{path} has no side file: its writing was interrupted"
        if digest is None:
            return f"{path} is missing although its side file exists"
        expected = _checksum(side, request)
        if expected is None:
            return f"{path.with_suffix('.json')} is damaged"
        if digest != expected:
            return f"{path} is damaged (sha256 {digest}, expected {expected})"
        return StoredImage(request=request, path=path, sha256=digest)

    def get_many(self, requests: Iterable[ImageRequest]) -> Iterator[StoredImage | None]:
        """`get` of each, in their order."""
        return map(self.get, requests)

    def put(self, request: ImageRequest, image: Image.Image) -> StoredImage:
        """Writes the image and its side file, each atomically, in place of what was stored under the key.

        Raises StoreError when it cannot be written (then nothing half-written lies under the final name), and
        GeneratorError when the image's size is not the requested one.
        """
        return self.put_png(request, checked_png(request, image))

    def put_png(self, request: ImageRequest, content: bytes) -> StoredImage:
        """`put` of a file of the request's image, as it is."""
        path = self.path(request)
        digest = hashlib.sha256(content).hexdigest()
        side = {
            "request": json.loads(request.to_json()),
            "sha256": digest,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "synthetic": True,
        }
        _write(path, content)
        _write(path.with_suffix(".json"), (json.dumps(side, indent=1, sort_keys=True) + "\n").encode("ascii"))
        return StoredImage(request=request, path=path, sha256=digest)

    def made(self, request: ImageRequest, sha256: str) -> StoredImage:
        """An image that another process says it has stored in this folder; it is verified when it is read."""
        return StoredImage(request=request, path=self.path(request), sha256=sha256)

    def flush(self) -> None:
        """Every image is in its place already."""


def checked_png(request: ImageRequest, image: Image.Image) -> bytes:
    """The file to store. Raises GeneratorError when the image's size is not the requested one."""
    if image.size != (request.width, request.height):
        raise GeneratorError(
            f"the image has {image.size[0]}x{image.size[1]} pixels, "
            f"its request asks for {request.width}x{request.height}"
        )
    return encode_png(request, image)


def _checksum(side: bytes, request: ImageRequest) -> str | None:
    """The PNG's checksum in a side file; None when the file is damaged or belongs to another request."""
    try:
        values: Any = json.loads(side)
        recorded = ImageRequest.from_json(json.dumps(values["request"]))
        checksum = values["sha256"]
    except (ValueError, TypeError, KeyError):
        return None
    return checksum if recorded == request and isinstance(checksum, str) else None


def _there(path: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` says of a file; None where there is none."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({_reason(error)}); check the store's permissions"
        ) from error


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({_reason(error)}); check the store's permissions"
        ) from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content, sync=False)  # what a power cut spoils is seen by its checksum
    except OSError as error:
        remedy = (
            "free some space"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "choose a folder you may write to"
        )
        raise StoreError(f"{path}: cannot be written ({_reason(error)}); {remedy}") from error


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
