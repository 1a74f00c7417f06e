"""Features of image files, each computed once.

One SQLite file, keyed by the sha256 of the image file's bytes, the version of the reader of images and
`feature_key` of the encoder: no moved file and no changed encoder can give a stale answer. Several processes
may use it at the same time.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import feature_key
from promptopt.base.errors import ArgumentError, PromptoptError
from promptopt.base.files import file_digest
from promptopt.base.images import READER, read_image

if TYPE_CHECKING:
    from evaluation.encoders.base import Encoder

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
    image TEXT NOT NULL,
    encoder TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (image, encoder)
) WITHOUT ROWID
"""


Progress = Callable[[str, int, int], None]
"""Called with what is read, images done, images in all."""


class FeatureStoreError(PromptoptError, ValueError):
    """The store or an image file cannot be used; the message names it and the remedy."""


class FeatureStore:
    """Features in one SQLite file.

    Args:
        path: of the file; it and its folder are made when absent.

    Raises:
        FeatureStoreError: the place cannot be written, or holds something else.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from evaluation import load_encoder
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 8), "red").save(folder / "red.png")
        >>> store = FeatureStore(folder / "features.sqlite")
        >>> store.features(load_encoder("thumbnail"), [folder / "red.png"]).shape
        (1, 193)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FeatureStoreError(
                f"{self.path}: cannot make its folder ({error}); give a writable place"
            ) from error
        with closing(self._connect()) as connection:
            self._prepare(connection)

    def features(
        self,
        encoder: Encoder,
        paths: Sequence[str | Path],
        *,
        batch_size: int = 64,
        on_progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Features of the images, in the order of `paths`; what is missing is computed and kept.

        Args:
            encoder: any encoder.
            paths: image files; the same content is encoded once.
            batch_size: images opened and encoded at a time; each batch is kept as soon as it is done, so that
                an interrupted call loses one batch at most.
            on_progress: called with the number of images (of ``len(paths)``) whose features are there, first
                with those found in the store, then after each batch.

        Returns:
            shape (len(paths), encoder.dim), float32.

        Raises:
            FeatureStoreError: an image that is missing or broken, an encoder that returns something else than
                finite features of its dimension, or a store that cannot be written.
        """
        if batch_size < 1:
            raise ArgumentError(f"batch_size is {batch_size}; expected 1 or more")
        files = [Path(path) for path in paths]
        keys = [_key(path) for path in files]
        with closing(self._connect()) as connection:
            found = self._read(connection, encoder, keys)
            missing = {key: path for key, path in zip(keys, files, strict=True) if key not in found}
            if on_progress is not None:
                on_progress(sum(key in found for key in keys))
            todo = list(missing.items())
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                rows = encode(encoder, [path for _, path in batch])
                self._write(connection, encoder, [key for key, _ in batch], rows)
                found.update((key, row) for (key, _), row in zip(batch, rows, strict=True))
                if on_progress is not None:
                    on_progress(sum(key in found for key in keys))
        if not keys:
            return np.zeros((0, encoder.dim), dtype=np.float32)
        return np.stack([found[key] for key in keys])

    def keep(self, encoder: Encoder, paths: Sequence[str | Path], rows: NDArray[np.float32]) -> None:
        """Store features (len(paths), encoder.dim) that were computed elsewhere, by the same encoder.

        Raises:
            FeatureStoreError: rows of another shape or not finite, an image that cannot be read, or a store
                that cannot be written.
        """
        if rows.shape != (len(paths), encoder.dim) or not np.isfinite(rows).all():
            raise FeatureStoreError(
                f"{encoder.uri}: features of shape {rows.shape} for {len(paths)} images came back; expected "
                f"finite ones of shape {(len(paths), encoder.dim)}"
            )
        with closing(self._connect()) as connection:
            self._write(connection, encoder, [_key(Path(path)) for path in paths], rows)

    def __len__(self) -> int:
        """Number of feature vectors in the store, of all encoders."""
        with closing(self._connect()) as connection:
            return int(connection.execute("SELECT count(*) FROM features").fetchone()[0])

    def _connect(self) -> sqlite3.Connection:
        try:
            # another process may hold the write lock for the length of one batch's insert
            return sqlite3.connect(self.path, timeout=60.0)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        try:
            with connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if version not in (0, _VERSION):
                    raise FeatureStoreError(
                        f"{self.path}: made by another version (layout {version}, here {_VERSION}); "
                        "delete it, and the features are computed again"
                    )
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _read(
        self, connection: sqlite3.Connection, encoder: Encoder, keys: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = {}
        unique = sorted(set(keys))
        try:
            for start in range(0, len(unique), 500):  # SQLite bounds the number of parameters
                part = unique[start : start + 500]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT image, checksum, vector FROM features WHERE encoder = ? AND image IN ({marks})",
                    [feature_key(encoder), *part],
                )
                for image, checksum, vector in rows:
                    # a row that fails the check counts as missing and is written anew
                    if _intact(vector, checksum, encoder.dim):
                        found[image] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return found

    def _write(
        self, connection: sqlite3.Connection, encoder: Encoder, keys: Sequence[str], rows: NDArray[np.float32]
    ) -> None:
        blobs = [row.astype("<f4").tobytes() for row in rows]
        values = [
            (key, feature_key(encoder), zlib.crc32(blob), blob) for key, blob in zip(keys, blobs, strict=True)
        ]
        try:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error) -> FeatureStoreError:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            remedy = "it is damaged or not a feature store; delete it, and the features are computed again"
        elif "readonly" in text or "unable to open" in text:
            remedy = "the file or its folder cannot be written; give a writable place"
        else:
            remedy = "check the disk, and that no other program holds the file"
        return FeatureStoreError(f"{self.path}: {text}: {remedy}")


def told(on_progress: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    """`FeatureStore.features`' own progress as that of one step among several."""
    return None if on_progress is None else lambda done: on_progress(what, done, total)


def _intact(vector: object, checksum: int, dim: int) -> bool:
    return isinstance(vector, bytes) and len(vector) == 4 * dim and zlib.crc32(vector) == checksum


def _key(path: Path) -> str:
    try:
        return f"{file_digest(path)} reader {READER}"
    except OSError as error:
        raise FeatureStoreError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def encode(encoder: Encoder, paths: Sequence[Path]) -> NDArray[np.float32]:
    """Features (n, dim) of image files, checked. Raises FeatureStoreError as `FeatureStore.features` does."""
    images = [read_image(path, error=FeatureStoreError) for path in paths]
    rows = np.asarray(encoder.encode_images(images), dtype=np.float32)
    if rows.shape != (len(paths), encoder.dim):
        raise FeatureStoreError(
            f"{encoder.uri}: gave features of shape {rows.shape} for {len(paths)} images; "
            f"expected {(len(paths), encoder.dim)}"
        )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise FeatureStoreError(
            f"{paths[bad[0]]}: {encoder.uri} gives a NaN or an infinity for it; "
            "look at the image, or leave it out"
        )
    return rows
