"""Faults of the machine, whichever library they come from: a full disk, memory that has run out.

Nothing is imported here to know a library's errors by: their names and words are enough.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = re.compile(
    r"os error (28|122|27)\b"  # safetensors, tokenizers: Rust
    r"|database or disk is full"  # SQLite, under SQLAlchemy too
    r"|No space left on device|Disk quota exceeded|File too large"
    r"|PytorchStreamWriter failed writing file"
)
_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator"
    r"|could not create a (primitive|memory)|could not execute a primitive"  # oneDNN
    r"|out of memory|OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|[Cc]annot allocate memory|std::bad_alloc|not enough memory"
)
_LITTLE = 1 << 20
"""Bytes; with less than this free, a write that failed without a reason failed for it."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the last one first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk, a quota or a limit on files was full.

    Example:
        >>> is_full_disk(OSError(28, "No space left on device"))
        True
        >>> is_full_disk(RuntimeError("I/O error: No space left on device (os error 28)"))
        True
        >>> is_full_disk(ValueError("28"))
        False
    """
    return any(
        (isinstance(one, OSError) and one.errno in _FULL)
        or (not isinstance(one, KeyboardInterrupt) and _FULL_WORDS.search(_words(one)) is not None)
        for one in chain(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator's or the CPU's allocator has run out, in whatever words.

    Example:
        >>> is_out_of_memory(RuntimeError("could not create a primitive"))
        True
        >>> is_out_of_memory(RuntimeError("shapes do not match"))
        False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def release_memory() -> None:
    """Give the memory of dead tensors back to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def full_disk(error: BaseException, places: Iterable[str | os.PathLike[str]] = ()) -> str:
    """The sentence for `is_full_disk`: the folder, and what to do.

    Args:
        places: where the command writes, for errors that do not say: the fullest is named.
    """
    names = [one.filename for one in chain(error) if isinstance(one, OSError) and one.filename]
    file = Path(os.fsdecode(names[0])) if names else None
    folder = _folder(file) if file is not None else fullest(places)
    where = "" if folder is None else f"{folder}: "
    many = any(isinstance(one, OSError) and one.errno == errno.EFBIG for one in chain(error))
    what = "a file exceeds the limit on the size of files (ulimit -f)" if many else "the disk is full"
    remedy = "Raise it" if many else "Free some space, or choose a folder on another disk"
    return f"{where}{what}. {remedy}, then run the same command again: finished work is kept."


def fullest(places: Iterable[str | os.PathLike[str]]) -> Path | None:
    """Of some paths, the folder with the least space left on its disk; None without one that exists."""
    folders = {_folder(Path(place)) for place in places}
    return min(
        (folder for folder in folders if folder is not None),
        key=lambda folder: (shutil.disk_usage(folder).free, str(folder)),
        default=None,
    )


def little_space(folder: Path) -> bool:
    """Whether a disk has next to nothing left."""
    return (own := _folder(folder)) is not None and shutil.disk_usage(own).free < _LITTLE


def _folder(path: Path) -> Path | None:
    if "\0" in str(path):  # newer Pythons say that it is no folder, and its parent would be the current one
        return None
    try:
        return next((one for one in (path, *path.absolute().parents) if one.is_dir()), None)
    except (OSError, ValueError):  # no path at all, such as a long text among arguments
        return None


def _words(error: BaseException) -> str:
    return str(error)[:4000]
