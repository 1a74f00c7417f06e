"""A place of whole objects behind a URL, through fsspec: read, put, size, list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generators.errors import StoreError
from generators.stores.address import StoreUrl
from promptopt.base.errors import PromptoptError
from promptopt.base.files import write_bytes

_PACKAGES = {"s3": "pip install 'promptopt[s3]'", "gs": "pip install gcsfs", "az": "pip install adlfs"}
_SECRET = re.compile(r"//[^/@\s]+@")


class Bucket:
    """Objects by name below a URL's prefix. A put takes the place of what was there, whole or not at all.

    Raises:
        StoreError: the package that opens such URLs is not installed. Every method raises it for what the
            place answers.

    Example:
        >>> bucket = Bucket(StoreUrl.parse("memory://example"))
        >>> bucket.write("a/b", b"content")
        >>> bucket.read("a/b"), bucket.read("a/c"), bucket.list("a")
        (b'content', None, {'a/b': 7})
    """

    def __init__(self, url: StoreUrl) -> None:
        import fsspec

        self.url = url
        try:
            # Listings that are kept would hide what other machines put there.
            self._fs: Any = fsspec.filesystem(url.protocol, use_listings_cache=False)
        except ImportError as error:
            raise StoreError(
                f"{url}: what opens {url.protocol}:// is not installed",
                remedy=f"Run {_PACKAGES.get(url.protocol, 'pip install fsspec')}.",
            ) from error
        self._root = ("/" if url.protocol in ("file", "memory") else "") + url.path

    def read(self, name: str, *, start: int | None = None, end: int | None = None) -> bytes | None:
        """An object, or a part of it; None where there is none."""
        with self._said(name):
            try:
                content: bytes = self._fs.cat_file(f"{self._root}/{name}", start=start, end=end)
            except FileNotFoundError:
                return None
            return content
        return None

    def write(self, name: str, content: bytes) -> None:
        """Put an object."""
        with self._said(name):
            if self.url.protocol == "file":
                path = Path(self._root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, content)
            else:
                self._fs.pipe_file(f"{self._root}/{name}", content)

    def size(self, name: str) -> int:
        """Bytes of an object; 0 where there is none."""
        with self._said(name):
            try:
                return int(self._fs.info(f"{self._root}/{name}").get("size") or 0)
            except FileNotFoundError:
                return 0
        return 0

    def list(self, prefix: str) -> dict[str, int]:
        """Names of all objects in a folder, with their sizes."""
        with self._said(prefix):
            try:
                found = self._fs.find(f"{self._root}/{prefix}", detail=True)
            except FileNotFoundError:
                return {}
            start = len(self._root) + 1
            return {path[start:]: int(info.get("size") or 0) for path, info in found.items()}
        return {}

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        try:
            yield
        except PromptoptError:
            raise
        except Exception as error:  # every SDK has its own classes
            lines = [_SECRET.sub("//...@", line.strip()) for line in str(error).splitlines() if line.strip()]
            text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            raise StoreError(
                f"{self.url}/{name}: {text}",
                remedy="Look at the address, at the network, and at the credentials in the environment.",
            ) from error
