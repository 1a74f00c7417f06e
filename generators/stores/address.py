"""Addresses of stores, and the folders in which this machine has its part of them."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from generators.errors import StoreError
from promptopt.base.files import write_json
from promptopt.base.reading import json_object

IMAGES = "images"
_MARKER = "store.json"
_SHARDS = "shards::"
_PROTOCOLS = {
    "s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "memory": "memory", "file": "file",
}  # fmt: skip
# Path("s3://bucket") has one slash; two letters at least, so that C:/ is a drive.
_URL = re.compile(
    r"(?P<shards>shards::)?(?:(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):/+)?(?P<rest>.*)", re.DOTALL
)


@dataclass(frozen=True)
class StoreUrl:
    """A place that fsspec opens.

    Attributes:
        protocol: "s3", "gs", "az", "memory" or "file".
        path: bucket and prefix, without slashes at the ends.
        shards: many images an object, instead of one.

    Example:
        >>> str(StoreUrl.parse("s3://bucket/a prefix/"))
        's3://bucket/a prefix'
    """

    protocol: str
    path: str
    shards: bool = False

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Read `[shards::]PROTOCOL://BUCKET/PREFIX`; after `shards::` also a folder.

        Raises StoreError for anything else, and for secrets in it, which the message does not repeat.
        """
        found = _URL.fullmatch(text)
        assert found is not None
        protocol, rest, shards = found["protocol"], found["rest"], bool(found["shards"])
        if protocol is None:
            if not shards or not rest:
                raise StoreError("no URL of a store", value=text, remedy="Give s3://BUCKET/PREFIX.")
            protocol, rest = "file", str(Path(rest).absolute())
        if "@" in rest.split("/")[0] or "?" in rest:
            raise StoreError(
                f"--store {protocol}://...: it holds a user, a password or a query",
                remedy="Leave them out: secrets come from the environment or the configuration of the "
                "bucket's own SDK (AWS_ACCESS_KEY_ID, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, "
                "AZURE_STORAGE_CONNECTION_STRING), and are written nowhere.",
            )
        if protocol.lower() not in _PROTOCOLS:
            raise StoreError(
                f"--store {protocol}://...: no such kind of store",
                remedy="Give a folder, or a URL that begins with s3://, gs://, az://, memory:// or file://.",
            )
        if not (path := rest.strip("/")):
            raise StoreError("names no place", value=text, remedy=f"Write {protocol}://BUCKET/PREFIX.")
        if any(part in (".", "..") for part in path.split("/")) or "\0" in path:
            raise StoreError("holds a part that is no name", value=text, remedy="Leave out . and ..")
        return cls(_PROTOCOLS[protocol.lower()], path, shards)

    def __str__(self) -> str:
        root = "/" if self.protocol == "file" else ""
        return f"{_SHARDS if self.shards else ''}{self.protocol}://{root}{self.path}"

    def below(self, name: str) -> StoreUrl:
        """A place in it."""
        return StoreUrl(self.protocol, f"{self.path}/{name}", self.shards)

    @property
    def folder(self) -> Path:
        """Where this machine keeps its copies: in the cache, `PROMPTOPT_CACHE` or ~/.cache/promptopt."""
        cache = Path(os.environ.get("PROMPTOPT_CACHE") or "~/.cache/promptopt").expanduser()
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(self))[-48:].strip("-.")
        return cache / "stores" / f"{name}-{hashlib.sha256(str(self).encode()).hexdigest()[:12]}"


def store_url(store: str | os.PathLike[str]) -> StoreUrl | None:
    """The URL that a store's address is, also where it went through a `Path`; None for a folder.

    Raises StoreError as `StoreUrl.parse`.
    """
    text = os.fspath(store)
    found = _URL.fullmatch(text)
    assert found is not None
    return StoreUrl.parse(text) if found["protocol"] or found["shards"] else None


def store_folder(store: str | os.PathLike[str]) -> Path:
    """The local folder of a whole store: images, features, checksums of weights.

    A folder is its own. A URL's lies in the cache; images go from it to the URL and come from there, and all
    else, such as features, stays on this machine.

    Raises:
        StoreError: as `StoreUrl.parse`, or a cache that cannot be written.

    Example:
        >>> store_folder("store")
        PosixPath('store')
    """
    url = store_url(store)
    if url is None:
        return Path(store)
    try:
        for folder, own in ((url.folder, url), (url.folder / IMAGES, url.below(IMAGES))):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _MARKER).exists():
                write_json(folder / _MARKER, {"url": str(own)})
    except OSError as error:
        raise StoreError(
            f"cannot be written ({error.strerror})",
            file=url.folder,
            remedy="Give PROMPTOPT_CACHE a writable place.",
        ) from error
    return url.folder


def marked_url(folder: Path) -> StoreUrl | None:
    """The URL whose images a folder made by `store_folder` stands for; None for a folder of its own.

    Raises StoreError where it cannot be read.
    """
    marker = folder / _MARKER
    if not marker.is_file():
        return None
    content = json_object(marker, error=StoreError, remedy="Delete it, and run the command again.")
    return StoreUrl.parse(str(content.get("url")))
