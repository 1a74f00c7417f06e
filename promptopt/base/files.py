"""Files on disk: their digest, hashed once, and the images below a folder."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_KEPT = 100_000
_SETTLED = 2.0
"""Seconds after its last change from which a file's times are trusted: clocks of file systems are coarse, and
a second change within one tick would not show (Git's "racy" files)."""

_Stamp = tuple[int, int, int, int, int]
_digests: OrderedDict[str, tuple[_Stamp, str]] = OrderedDict()
_lock = Lock()


def file_digest(path: str | Path) -> str:
    """Hex sha256 of a file's bytes.

    A file that has not changed since this process hashed it (device, inode, size, times) is not read again.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        facts = os.fstat(file.fileno())
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        key = str(Path(path).absolute())
        with _lock:
            kept = _digests.get(key)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - max(facts.st_mtime, facts.st_ctime) > _SETTLED:
        with _lock:
            _digests[key] = (stamp, digest)
            _digests.move_to_end(key)
            while len(_digests) > _KEPT:
                _digests.popitem(last=False)
    return digest


def images_below(root: Path) -> tuple[list[Path], int]:
    """Image files in a folder and below, by suffix, sorted by path, and how many others lie there.

    Hidden files and folders are passed over and not counted.
    """
    below = [path for path in sorted(root.rglob("*")) if path.is_file()]
    shown = [path for path in below if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    images = [path for path in shown if path.suffix.lower() in SUFFIXES]
    return images, len(shown) - len(images)
