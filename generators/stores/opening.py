"""The store of an address, whatever kind it is."""

from __future__ import annotations

import os
from pathlib import Path

from generators.store import ImageStore, Store
from generators.stores.address import marked_url, store_url


def open_store(place: str | os.PathLike[str]) -> Store:
    """The images at a place.

    Args:
        place: a folder; a URL (s3://, gs://, az://, memory://, file://) for one object an image; or
            ``shards::`` before a URL or folder for tar shards.

    Raises:
        StoreError: no such kind of place, secrets in its URL, or the package that opens it is missing.

    Example:
        >>> import tempfile
        >>> open_store(tempfile.mkdtemp()).address.startswith("/"), open_store("memory://example").address
        (True, 'memory://example')
    """
    url = store_url(place) or marked_url(Path(place))
    if url is None:
        return ImageStore(place)
    if url.shards:
        from generators.stores.shards import ShardStore

        return ShardStore(url)
    from generators.stores.url_store import UrlStore

    return UrlStore(url)
