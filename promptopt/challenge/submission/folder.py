"""A folder that appears whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from promptopt.base import files
from promptopt.base.locks import LockedError
from promptopt.challenge.submission.details import DETAILS
from promptopt.run.errors import ExportError

CHECKSUMS = "SHA256SUMS"


@contextmanager
def new_folder(out: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes the place of `out` when the block ends without an error.

    It lies beside `out`, so that the last step is a rename. After an error, a full disk or a killed process,
    what was at `out` before is still there; what a killed process left behind goes with the next call.

    Raises:
        ExportError: `out` exists (without `force`), is no submission that this project wrote (with it), or
            is being written by another process; or the disk is full or the place not writable.
    """
    target = Path(out)
    try:
        with files.new_folder(target) as staged:
            _check_target(target, force=force)
            yield staged
    except LockedError as error:
        raise ExportError(str(error)) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "choose another folder"
        # of a full disk, the system names the file that was being copied from
        place = f"{error.filename}: " if error.filename and not full else ""
        raise ExportError(
            f"{target}: cannot be written ({place}{error.strerror or type(error).__name__}); {remedy}. "
            "What was there before is as it was."
        ) from error


def is_ours(folder: Path) -> bool:
    """Whether a submission lies there, and not something else that must not be replaced."""
    return (folder / DETAILS).is_file() and (folder / CHECKSUMS).is_file()


def write_checksums(folder: Path) -> Path:
    """SHA256SUMS of all other files, as `sha256sum -c` reads it."""
    listed = (path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    lines = [f"{files.file_digest(p)}  {p.relative_to(folder).as_posix()}\n" for p in sorted(listed)]
    path = folder / CHECKSUMS
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _check_target(target: Path, *, force: bool) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(f"{target}: is no folder; choose another place")
    if not target.exists() or not any(target.iterdir()):
        return
    if not force:
        raise ExportError(f"{target}: exists already; choose another folder, or --force to replace it")
    if not is_ours(target):
        raise ExportError(
            f"{target}: holds no submission of promptopt ({DETAILS} and {CHECKSUMS} are not there), so it is "
            "not replaced, even with --force; choose another folder, or remove it yourself"
        )
