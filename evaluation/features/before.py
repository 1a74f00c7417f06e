"""Features in the one SQLite file that versions up to 0.1 kept; it is read, never written."""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import feature_key
from promptopt.base.images import READER

if TYPE_CHECKING:
    from evaluation.encoders.base import Encoder

logger = logging.getLogger(__name__)

_VERSION = 1
_AT_ONCE = 500  # SQLite bounds the number of parameters


class FeaturesBefore:
    """What such a file holds; one that cannot be read is warned of and then left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.exists = path.is_file()

    def read(
        self, encoder: Encoder, digests: Sequence[bytes]
    ) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        """Those of the digests that are there with their vectors (n, encoder.dim), some hundred at a time."""
        for start in range(0, len(digests) if self.exists else 0, _AT_ONCE):
            keys = {f"{one.hex()} reader {READER}": one for one in digests[start : start + _AT_ONCE]}
            try:
                found = self._select(encoder, list(keys))
            except sqlite3.Error as error:
                self.exists = False
                logger.warning(
                    "%s: %s; it is left alone, and its features are computed again", self._path, error
                )
                return
            good = [(keys[image], vector) for image, checksum, vector in found
                    if isinstance(vector, bytes) and len(vector) == 4 * encoder.dim
                    and zlib.crc32(vector) == checksum]  # fmt: skip
            if good:
                rows = np.frombuffer(b"".join(vector for _, vector in good), dtype="<f4")
                yield [key for key, _ in good], rows.reshape(len(good), encoder.dim).astype(np.float32)

    def _select(self, encoder: Encoder, keys: Sequence[str]) -> list[tuple[str, int, object]]:
        marks = ",".join("?" * len(keys))
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != _VERSION:
                raise sqlite3.DatabaseError(f"layout {version} of another version")
            return connection.execute(
                f"SELECT image, checksum, vector FROM features WHERE encoder = ? AND image IN ({marks})",
                [feature_key(encoder), *keys],
            ).fetchall()
