"""The folder of an augmentation set: whose it is, whether it is finished, what may be removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from promptopt.augmentation.journal import SUMMARY, WORK, read_settings, refuse_other
from promptopt.augmentation.results import AugmentationSet, ClassResult
from promptopt.augmentation.sources import AugmentationError
from promptopt.augmentation.writers import SHARDS, Piece, slug
from promptopt.base.checksums import without_sum
from promptopt.base.files import file_digest, write_text
from studies.dataset import METADATA

CHECKSUMS = "checksums.sha256"


def write_checksums(folder: Path, pieces: Iterable[Piece], *, shards: bool) -> str:
    """Write `checksums.sha256`, as `sha256sum --check` reads it; returns its own sha256.

    Args:
        pieces: images as they were written.
        shards: whether they lie in archives, which are read for it.
    """

    def lines() -> Iterator[str]:
        if shards:
            for path in sorted((folder / SHARDS).glob("*.tar")):
                yield f"{file_digest(path)}  {SHARDS}/{path.name}\n"
        else:
            for piece in pieces:
                yield f"{piece.sha256}  {piece.file}\n"
            yield f"{file_digest(folder / METADATA)}  {METADATA}\n"

    return file_digest(write_text(folder / CHECKSUMS, lines()))


def damaged(folder: Path, seal: object) -> list[str]:
    """Names of files that are missing or not as they were written."""
    path = folder / CHECKSUMS
    try:
        if file_digest(path) != seal:
            return [CHECKSUMS]
        with path.open(encoding="utf-8") as stream:
            listed = [line.rstrip("\n").split("  ", 1) for line in stream]
    except OSError:
        return [CHECKSUMS]
    return [name for digest, name in listed if _digest(folder / name) != digest]


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def finished(
    folder: Path, settings: Mapping[str, Any], *, force: bool, on_warning: Callable[[str], None] | None = None
) -> AugmentationSet | None:
    """The set, where it is finished and whole; None where it is to be made or gone on with.

    With `force` a set of other settings is removed. One of these settings that is damaged is made again.

    Raises:
        AugmentationError: files of another origin, or a set of other settings without `force`.
    """
    path = folder / SUMMARY
    begun = folder / WORK / "settings.json"
    foreign = [p.name for p in folder.iterdir() if p.name not in (".lock", WORK)]
    if not path.exists() and not begun.exists():
        if foreign:
            raise AugmentationError(
                f"{folder}: holds files of another origin ({sorted(foreign)[0]}); choose another folder"
            )
        return None
    document = read_summary(folder) if path.exists() else {}
    old = document["settings"] if document else read_settings(begun)
    try:
        refuse_other(folder, old, settings)
    except AugmentationError:
        if not force:
            raise
        _remove(folder, old)
        return None
    if not document:
        return None
    if holes := damaged(folder, document.get("checksums")):
        if on_warning is not None:
            more = f" and {len(holes) - 1} more" if len(holes) > 1 else ""
            on_warning(
                f"{folder}: {holes[0]}{more} missing or not as written; the set is made again, with the same "
                "images"
            )
        path.unlink()
        if not begun.exists():  # else the journal says what of it is whole
            _remove(folder, old)
        return None
    shutil.rmtree(folder / WORK, ignore_errors=True)
    try:
        classes = tuple(ClassResult(**one) for one in document["classes"])
    except TypeError as error:
        raise _unreadable(path, error) from error
    return AugmentationSet(folder=folder, format=settings["format"], classes=classes, generated=0)


def read_summary(folder: Path) -> dict[str, Any]:
    """What `augmentation.json` says of a finished set.

    Raises:
        AugmentationError: it cannot be read, or its checksum is another.
    """
    path = folder / SUMMARY
    document = read_settings(path)
    without_sum(path, error=AugmentationError, remedy="Remove the folder, or choose another.")
    for key, kind in (("settings", dict), ("classes", list)):
        if not isinstance(document.get(key), kind):
            raise _unreadable(path, f"it has no {key}")
    return document


def _unreadable(path: Path, fault: object) -> AugmentationError:
    return AugmentationError(f"{path}: cannot be read ({fault}); remove the folder, or choose another")


def _remove(folder: Path, old: Mapping[str, Any]) -> None:
    """What a set wrote, and nothing else."""
    for name in (SUMMARY, METADATA, CHECKSUMS):
        (folder / name).unlink(missing_ok=True)
    for name in (*(slug(own) for own in old["classes"]), SHARDS, WORK):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
