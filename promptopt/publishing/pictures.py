"""Contact sheets of prompts as Optuna's artifacts, in a folder or object store that a team shares."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from promptopt.formatting.pictures import image_grid, png_bytes
from promptopt.publishing.notes import ARTIFACT, sheet_name
from promptopt.publishing.target import PublishError
from promptopt.run.identity import RunIdentity
from promptopt.run.images import RunImages
from promptopt.run.trials import rows_of_trial
from promptopt.space import Candidate

_MOST = 16  # images in a sheet


class FsspecArtifactStore:
    """An `optuna.artifacts` store in whatever fsspec opens: `s3://bucket/folder`, `gs://...`.

    `s3://` needs the package s3fs, `gs://` gcsfs.

    Raises:
        PublishError: no such kind of place, or its package is not installed.

    Example:
        >>> store = FsspecArtifactStore("memory://sheets")
        >>> store.write("a", io.BytesIO(b"picture"))
        >>> store.open_reader("a").read()
        b'picture'
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise PublishError(f"--artifacts {url}: cannot be opened ({error})") from error

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The artifact, to be read. Raises optuna's ArtifactNotFound."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        try:
            return io.BytesIO(self._files.cat_file(self._at(artifact_id)))
        except FileNotFoundError as error:
            raise ArtifactNotFound(artifact_id) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write it, or write it anew."""
        self._files.pipe_file(self._at(artifact_id), content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Delete it. Raises optuna's ArtifactNotFound."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        try:
            self._files.rm_file(self._at(artifact_id))
        except FileNotFoundError as error:
            raise ArtifactNotFound(artifact_id) from error

    def _at(self, artifact_id: str) -> str:
        return f"{self._root.rstrip('/')}/{artifact_id}"


def artifact_store(place: str) -> Any:
    """Optuna's artifact store in a folder, or in an object store by its URL.

    Raises:
        PublishError: the folder cannot be written, or the URL not be opened.
    """
    folder = artifact_folder(place)
    if folder is None:
        return FsspecArtifactStore(place)
    from optuna.artifacts import FileSystemArtifactStore

    from promptopt.base.files import writable_folder

    return FileSystemArtifactStore(str(writable_folder(folder, "the artifacts", error=PublishError)))


def artifact_folder(place: str) -> Path | None:
    """The folder that a place is, which `optuna-dashboard --artifact-dir` takes; None for an object store.

    >>> print(artifact_folder("file:///shared/sheets"), artifact_folder("s3://bucket/sheets"))
    /shared/sheets None
    """
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place)


class Sheets:
    """Contact sheets of one class's prompts; made again when a prompt has got more images.

    Args:
        artifacts: an Optuna artifact store.
        images: where the class's images lie.
        identity: of the run.
    """

    def __init__(self, artifacts: Any, images: RunImages, identity: RunIdentity) -> None:
        self._artifacts = artifacts
        self._images = images
        self._identity = identity

    def attributes(self, trial: Any, there: Mapping[str, Any]) -> dict[str, str]:
        """The system attribute that names a trial's sheet, which is written if `there` does not name it.

        Empty where none of the prompt's images is in the store.
        """
        count = _images_of(trial)
        if not count:
            return {}
        label = self._images.label or ""
        artifact = sheet_name(self._identity.uuid, label, trial.number)
        key, name = ARTIFACT + artifact, f"prompt-{trial.number:04d}-of-{count}-images.png"
        meta = {"artifact_id": artifact, "filename": name, "mimetype": "image/png", "encoding": None}
        text = json.dumps(meta)
        if there.get(key) != text:
            candidate = Candidate.from_json(trial.user_attrs["candidate"])
            stored = self._images.present(candidate, stage="search", count=min(count, _MOST))
            if not stored:
                return {}
            sheet = png_bytes(image_grid([image.load() for image in stored]))
            try:
                self._artifacts.write(artifact, io.BytesIO(sheet))
            except Exception as error:  # an object store's library raises errors of its own
                raise PublishError(f"--artifacts: the contact sheets cannot be written ({error})") from error
        return {key: text}


def _images_of(trial: Any) -> int:
    """On how many images a trial's prompt was measured last."""
    if "candidate" not in trial.user_attrs or trial.state.name == "FAIL":
        return 0
    if looks := trial.user_attrs.get("looks"):
        return int(looks[-1][-1])
    rows = rows_of_trial(trial)
    return rows[-1].images if rows else 0
