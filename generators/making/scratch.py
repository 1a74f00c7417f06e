"""Folders for images that nobody keeps; what a killed process left goes when the next one makes its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from promptopt.base.errors import PromptoptError
from promptopt.base.locks import hold

PREFIX = "promptopt-images-"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end; first, all beside it that a killed process left are removed.

    Args:
        parent: must exist; None takes the system's folder for temporary files.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> with scratch_folder() as folder:
        ...     folder.is_dir()
        True
        >>> folder.exists()
        False
    """
    beside = Path(tempfile.gettempdir()) if parent is None else parent
    for left in beside.glob(f"{PREFIX}*/"):
        # held by a process that is still at work, or another user's
        with suppress(PromptoptError, OSError), hold(_lock(left), remove=True):
            shutil.rmtree(left)
    folder = beside / f"{PREFIX}{uuid4().hex[:12]}"
    with hold(_lock(folder), remove=True):  # before there is a folder that others could take for one left
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # a worker that is ending may still write


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
