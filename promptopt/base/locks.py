"""Locks that go with the process that holds them, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from promptopt.base.errors import PromptoptError


class LockedError(PromptoptError):
    """Another process is at work there."""


@contextmanager
def hold(
    lock: Path, busy: PromptoptError | None = None, *, wait: float = 0.0, remove: bool = False
) -> Iterator[None]:
    """Hold a lock file for the block.

    Args:
        lock: the file; made if missing. Its folder must exist.
        busy: raised where another process holds it; default a LockedError that names the file.
        wait: seconds to wait for it; negative waits for as long as it takes.
        remove: delete the file at the end.

    Raises:
        PromptoptError: `busy`.
        OSError: the file cannot be made.

    Example:
        >>> import tempfile
        >>> lock = Path(tempfile.mkdtemp()) / ".lock"
        >>> with hold(lock):
        ...     with hold(lock, LockedError("another process writes there", file="runs/a")):
        ...         pass
        Traceback (most recent call last):
            ...
        promptopt.base.locks.LockedError: runs/a: another process writes there
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=wait)
    try:
        held.acquire()
    except Timeout as error:
        raise busy or LockedError("is held by another process", file=lock, remedy="Wait for it.") from error
    try:
        yield
    finally:
        if remove:
            lock.unlink(missing_ok=True)
        held.release()


def drop_free(lock: Path) -> None:
    """Remove a lock file that no process holds."""
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=0)
    with suppress(Timeout, OSError), held:
        lock.unlink(missing_ok=True)
