"""Files on disk: written whole or not at all, hashed once, and the images below a folder."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from promptopt.base.errors import PromptoptError
from promptopt.base.locks import LockedError, drop_free, hold
from promptopt.base.machine import is_full_disk

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_KEPT = 100_000
_SETTLED = 2.0
"""Seconds after its last change from which a file's times are trusted: clocks of file systems are coarse, and
a second change within one tick would not show (Git's "racy" files)."""

_Stamp = tuple[int, int, int, int, int]
_digests: OrderedDict[str, tuple[_Stamp, str]] = OrderedDict()
_lock = Lock()

_UNFINISHED = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-[0-9a-f]{8}\.(?P<kind>partial|old)"
)
_SCRATCH = re.compile(r"promptopt-(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-.+")
_seen: set[tuple[int, str]] = set()
"""Folders that this process has looked through for what killed ones left."""

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


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


def kept_digests(paths: Sequence[Path], cache: Path) -> list[str]:
    """`file_digest` of many files; those that are as a process before had them are not read again.

    Args:
        cache: where their sizes, times and digests are kept; its folder must exist. A cache that cannot be
            read is made anew.

    Raises:
        OSError: a file cannot be read, or the cache not be written.
    """
    names = [str(path.absolute()) for path in paths]
    before: dict[str, list[Any]] = {}
    with suppress(OSError, ValueError, AttributeError, TypeError):
        for name, (digest, *stamp) in json.loads(cache.read_text(encoding="utf-8")).items():
            before[str(name)] = [digest, *stamp]
    with _lock:
        for name, (digest, *stamp) in before.items():
            _digests.setdefault(name, (tuple(stamp), digest))
    found = [file_digest(path) for path in paths]
    with _lock:
        now = {name: [_digests[name][1], *_digests[name][0]] for name in names if name in _digests}
    if now != before:
        write_json(cache, now, indent=0)
    return found


def images_below(root: Path) -> tuple[list[Path], int]:
    """Image files in a folder and below, by suffix, sorted by path, and how many others lie there.

    Hidden files and folders are passed over and not counted.
    """
    below = [path for path in sorted(root.rglob("*")) if path.is_file()]
    shown = [path for path in below if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    images = [path for path in shown if path.suffix.lower() in SUFFIXES]
    return images, len(shown) - len(images)


class FileError(PromptoptError):
    """A file or folder that cannot be read or written."""


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> Path:
    """Write a file so that a reader, or a crash, finds the old or the new content and nothing between.

    Args:
        path: the file; its folder must exist.
        content: all of it.
        sync: wait until it is on the disk. Without, only a process that ends early is provided for, not a
            power cut: for files whose reader checks their content.

    Raises:
        OSError: it cannot be written; then what was there before still is.
    """
    with new_file(path, sync=sync) as partial:
        partial.write_bytes(content)
    return path


def write_text(path: Path, text: str | Iterable[str]) -> Path:
    r"""`write_bytes` of a text, whole or in pieces, as UTF-8 with ``\n`` between lines."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines([text] if isinstance(text, str) else text)
    return path


def write_json(path: Path, content: Any, *, indent: int = 1, **options: Any) -> Path:
    """`write_bytes` of a JSON document and a line break; `options` as of ``json.dumps``."""
    return write_text(path, json.dumps(content, indent=indent, **options) + "\n")


@contextmanager
def new_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """An empty file beside `path` for the block to fill; it takes the place of `path` if the block ends well.

    For writers that want a name. Arguments and errors as of `write_bytes`.
    """
    with new_files([path], sync=sync) as (partial,):
        yield partial


@contextmanager
def new_files(paths: Sequence[Path], *, sync: bool = True) -> Iterator[list[Path]]:
    """`new_file` for several: all of them are on the disk before the first one takes its place.

    What killed processes left in their folders goes, once a process and folder.
    """
    partials: list[Path] = []
    for folder in {path.parent for path in paths}:
        _sweep_once(folder)
    try:
        for path in paths:
            partial = _beside(path)
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            partials.append(partial)
        modes = [partial.stat().st_mode & 0o777 for partial in partials]
        yield partials
        for partial, mode in zip(partials, modes, strict=True):
            partial.chmod(mode)  # some writers make a file of their own, for the owner alone
            if sync:
                to_disk(partial)
        for partial, path in zip(partials, paths, strict=True):
            partial.replace(path)
    except Exception as error:
        _name_place(error, paths[0])
        raise
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` for the block to fill; it takes the place of `target` if it ends well.

    After an error, a full disk or a killed process, what was at `target` before is still there; what a killed
    process left behind goes with the next call.

    Raises:
        LockedError: another process writes it.
        OSError: it cannot be written.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    busy = LockedError("another process writes it", file=target, remedy="Wait for it.")
    with hold(target.with_name(f".{target.name}.lock"), busy, remove=True):
        _sweep_once(target.parent)
        _clear_up(target)
        partial = _beside(target)
        try:
            partial.mkdir()
            yield partial
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    to_disk(path)
            _take_place(partial, target)
        except Exception as error:
            _name_place(error, target)
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> bool:
    """The file under a second name where the disk can, else a copy; True for a copy. Replaces `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target)
    try:
        try:
            os.link(source, partial)
            copied = False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, partial)
            copied = True
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return copied


def writable_folder(folder: Path, what: str, *, error: type[PromptoptError] = FileError) -> Path:
    """Create a folder and prove that files can be written there.

    Args:
        folder: with its parents.
        what: of the project lies there, for the message.
        error: the class to raise.

    Raises:
        FileError: they cannot; or `error`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-test-"):
            pass
    except OSError as fault:
        raise error(
            f"{what} cannot be written ({fault.strerror or fault})",
            file=folder,
            remedy="Give it write permission, or choose another place.",
        ) from fault
    return folder


def sweep(folder: Path) -> None:
    """Remove the unfinished files of killed processes. Only for who holds the folder's lock."""
    for leftover in folder.glob(".*.partial"):
        leftover.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the block alone; what a killed process left of its own goes with the next call."""
    place = Path(tempfile.gettempdir())
    with suppress(OSError):
        for path in place.glob("promptopt-*"):
            found = _SCRATCH.fullmatch(path.name)
            if found and _is_dead(found["host"], int(found["pid"])):
                shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"promptopt-{_owner()}-") as name:
        yield Path(name)


def sweep_dead(folder: Path) -> None:
    """Remove what killed processes of this machine left in a folder: unfinished files and folders, locks.

    A folder that was put aside for a new one comes back if the new one never took its place. What living
    processes, or those of other machines, are at work on stays.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if (found := _UNFINISHED.fullmatch(path.name)) is None:
                if path.name.startswith(".") and path.name.endswith(".lock") and path.name != ".lock":
                    drop_free(path)
                continue
            if not _is_dead(found["host"], int(found["pid"])):
                continue
            target = path.with_name(found["name"])
            if found["kind"] == "old" and not target.exists():
                path.rename(target)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _sweep_once(folder: Path) -> None:
    own = (os.getpid(), str(folder.absolute()))
    if own not in _seen:
        _seen.add(own)
        sweep_dead(folder)


def _name_place(error: Exception, path: Path) -> None:
    """Say where a disk was full, where the writer did not."""
    if isinstance(error, OSError):
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
    elif is_full_disk(error) and not isinstance(error, PromptoptError):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _beside(path: Path, end: str = "partial") -> Path:
    return path.with_name(f".{path.name}.{_owner()}-{secrets.token_hex(4)}.{end}")


def _owner() -> str:
    return f"{_host()}-{os.getpid()}"


@cache
def _host() -> str:
    """Within what process numbers are unique: the machine since its start, and the container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


def _is_dead(host: str, pid: int) -> bool:
    if host != _host():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's
        return False
    return False


def _take_place(partial: Path, target: Path) -> None:
    old = _beside(target, "old")
    moved = target.exists()
    if moved:
        target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        if moved:
            old.rename(target)
        raise
    to_disk(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _clear_up(target: Path) -> None:
    """Leftovers of killed processes: half-filled folders go, one that was put aside comes back."""
    own = f".{glob.escape(target.name)}.{'[0-9a-f]' * 6}-[0-9]*-{'[0-9a-f]' * 8}"
    for old in target.parent.glob(f"{own}.old"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # killed between the two renames
            old.rename(target)
    for partial in target.parent.glob(f"{own}.partial"):
        shutil.rmtree(partial, ignore_errors=True)
