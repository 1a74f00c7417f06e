"""Features of image files, each computed once.

Keyed by the sha256 of the image file's bytes, the version of the reader of images and the encoder's
`feature_key`: no moved file and no changed encoder can give a stale answer. Several processes may use a store
at the same time, on a shared disk too. Memory is that of the answer, and time is linear in the images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import feature_key
from evaluation.features.before import FeaturesBefore
from evaluation.features.errors import FeatureStoreError
from evaluation.features.rows import Rows
from promptopt.base.errors import ArgumentError
from promptopt.base.files import file_digest, writable_folder, write_json
from promptopt.base.images import READER, read_image
from promptopt.base.reading import json_object

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.encoders.base import Encoder

_LAYOUT = 1
_FACTS, _OLD = "encoder.json", ".sqlite"
_AGAIN = "Delete its folder, and the features are computed again."

Progress = Callable[[str, int, int], None]
"""Called with what is read, images done, images in all."""


class Hashed(Protocol):
    """An image file whose sha256 (hexadecimal) is known, as that of one in a store is."""

    @property
    def path(self) -> Path: ...

    @property
    def sha256(self) -> str: ...


File = str | Path | Hashed


class FeatureStore:
    """Features in a folder, one below it for each encoder; see `evaluation.features.rows`.

    Args:
        path: the folder; made when absent. Where a file of the same name with the end ``.sqlite`` lies beside
            it, from versions before this one, what that holds is taken over as it is asked for. A path with
            that end means the folder without it.

    Raises:
        FeatureStoreError: the place cannot be written, or is a file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from evaluation import load_encoder
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 8), "red").save(folder / "red.png")
        >>> store = FeatureStore(folder / "features")
        >>> store.features(load_encoder("thumbnail"), [folder / "red.png"]).shape
        (1, 193)
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path.with_suffix("") if path.suffix == _OLD else path
        writable_folder(self.path, "the features", error=FeatureStoreError)
        self._before = FeaturesBefore(self.path.with_name(self.path.name + _OLD))
        self._rows: dict[str, Rows] = {}

    def features(
        self,
        encoder: Encoder,
        paths: Sequence[File],
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
        files = [_path(one) for one in paths]
        digests = [_digest(one) for one in paths]
        found = np.zeros((len(files), encoder.dim), dtype=np.float32)
        there = self._read(encoder, digests, found)
        if on_progress is not None:
            on_progress(int(there.sum()))
        first: dict[bytes, list[int]] = {}
        for place in np.flatnonzero(~there).tolist():
            first.setdefault(digests[place], []).append(place)
        todo, done = list(first.items()), int(there.sum())
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            rows = encode(encoder, [files[places[0]] for _, places in batch])
            self._append(encoder, [digest for digest, _ in batch], rows)
            for row, (_, places) in zip(rows, batch, strict=True):
                found[places] = row
                done += len(places)
            if on_progress is not None:
                on_progress(done)
        return found

    def keep(self, encoder: Encoder, paths: Sequence[File], rows: NDArray[np.float32]) -> None:
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
        digests = [_digest(one) for one in paths]
        there = self._read(encoder, digests, np.empty_like(rows, dtype=np.float32))
        new = {digests[place]: place for place in np.flatnonzero(~there).tolist()}
        self._append(encoder, list(new), rows[list(new.values())])

    def __len__(self) -> int:
        """Number of feature vectors in the store, of all encoders; without those of versions before."""
        total = 0
        for file in sorted(self.path.glob(f"*/{_FACTS}")):
            facts = json_object(file, error=FeatureStoreError, remedy=_AGAIN)
            total += len(Rows(file.parent, int(facts["dim"])))
        return total

    def _of(self, encoder: Encoder) -> Rows:
        facts = {"encoder": feature_key(encoder), "dim": encoder.dim, "reader": READER, "layout": _LAYOUT}
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        if name not in self._rows:
            folder = self.path / name
            folder.mkdir(exist_ok=True)
            if not (folder / _FACTS).exists():
                write_json(folder / _FACTS, facts)
            self._rows[name] = Rows(folder, encoder.dim)
        return self._rows[name]

    def _read(
        self, encoder: Encoder, digests: Sequence[bytes], out: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Fill in what is there, also in a file of versions before; which ones these are."""
        if not digests:
            return np.zeros(0, dtype=bool)
        try:
            there = self._of(encoder).read(digests, out)
        except OSError as error:
            raise self._failure(error) from error
        places: dict[bytes, list[int]] = {}
        for place in np.flatnonzero(~there).tolist() if self._before.exists else ():
            places.setdefault(digests[place], []).append(place)
        for part, rows in self._before.read(encoder, list(places)):
            self._append(encoder, part, rows)
            for digest, row in zip(part, rows, strict=True):
                out[places[digest]], there[places[digest]] = row, True
        return there

    def _append(self, encoder: Encoder, digests: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        if not digests:
            return
        try:
            self._of(encoder).append(digests, rows)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> FeatureStoreError:
        return FeatureStoreError(
            f"cannot be used ({error.strerror or error})",
            file=error.filename or self.path,
            remedy="Free some space, or give a writable place.",
        )


def told(on_progress: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    """`FeatureStore.features`' own progress as that of one step among several."""
    return None if on_progress is None else lambda done: on_progress(what, done, total)


def _path(one: File) -> Path:
    return Path(one) if isinstance(one, str | Path) else one.path


def _digest(one: File) -> bytes:
    if not isinstance(one, str | Path):
        return bytes.fromhex(one.sha256)
    path = Path(one)
    try:
        return bytes.fromhex(file_digest(path))
    except OSError as error:
        raise FeatureStoreError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def encode(encoder: Encoder, paths: Sequence[Path]) -> NDArray[np.float32]:
    """Features (n, dim) of image files, checked. Raises FeatureStoreError as `FeatureStore.features` does."""
    return encode_pictures(encoder, pictures(paths), paths)


def pictures(paths: Sequence[Path]) -> list[Image.Image]:
    """The RGB images of files. Raises FeatureStoreError where one is missing or broken."""
    return [read_image(path, error=FeatureStoreError) for path in paths]


def encode_pictures(
    encoder: Encoder, images: Sequence[Image.Image], paths: Sequence[Path]
) -> NDArray[np.float32]:
    """`encode` of files that were read."""
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
