"""The folder of an augmentation set: whose it is, whether it is finished, what may be removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptopt.augmentation.journal import SUMMARY, WORK, refuse_other
from promptopt.augmentation.results import AugmentationSet, ClassResult
from promptopt.augmentation.sources import AugmentationError
from promptopt.augmentation.writers import SHARDS, slug
from studies.dataset import METADATA


def finished(folder: Path, settings: Mapping[str, Any], *, force: bool) -> AugmentationSet | None:
    """The set, where it is finished; None where it is to be made or gone on with.

    With `force` a set of other settings is removed.

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
    try:
        old = json.loads((path if path.exists() else begun).read_text(encoding="utf-8"))
        old = old["settings"] if path.exists() else old
    except (OSError, ValueError, KeyError) as error:
        raise AugmentationError(
            f"{path}: cannot be read ({error}); remove the folder, or choose another"
        ) from error
    try:
        refuse_other(folder, old, settings)
    except AugmentationError:
        if not force:
            raise
        _remove(folder, old)
        return None
    if not path.exists():
        return None
    shutil.rmtree(folder / WORK, ignore_errors=True)
    document = json.loads(path.read_text(encoding="utf-8"))
    classes = tuple(ClassResult(**one) for one in document["classes"])
    return AugmentationSet(folder=folder, format=settings["format"], classes=classes, generated=0)


def _remove(folder: Path, old: Mapping[str, Any]) -> None:
    """What a set wrote, and nothing else."""
    for name in (SUMMARY, METADATA):
        (folder / name).unlink(missing_ok=True)
    for name in (*(slug(own) for own in old["classes"]), SHARDS, WORK):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
