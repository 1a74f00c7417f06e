"""A folder that appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from promptopt.challenge.submission.details import DETAILS
from promptopt.run.errors import ExportError

CHECKSUMS = "SHA256SUMS"
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


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
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock", timeout=0) as lock:
            staged = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
            try:
                _clear_up(target)
                _check_target(target, force=force)
                staged.mkdir()
                yield staged
                _take_place(staged, target)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
                with suppress(OSError):
                    Path(lock.lock_file).unlink()
    except Timeout as error:
        raise ExportError(f"{target}: another process writes it; wait for it") from error
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


def link_or_copy(source: Path, target: Path) -> None:
    """One file under two names where the disk can, else a copy. `target` must be new (OSError)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:  # copying onto a link would write into another folder's file
            raise
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """Of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> Path:
    """SHA256SUMS of all other files, as `sha256sum -c` reads it."""
    listed = (path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    files = sorted(listed)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
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


def _take_place(staged: Path, target: Path) -> None:
    old = target.parent / f".{target.name}.{secrets.token_hex(4)}.old"
    moved = False
    if target.exists():
        target.rename(old)
        moved = True
    try:
        staged.rename(target)
    except BaseException:
        if moved:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear_up(target: Path) -> None:
    """Leftovers of killed processes: half-filled folders go, one that was put aside comes back."""
    pattern = f".{_literal(target.name)}.{'[0-9a-f]' * 8}"
    for old in target.parent.glob(f"{pattern}.old"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # killed between the two renames
            old.rename(target)
    for partial in target.parent.glob(f"{pattern}.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
