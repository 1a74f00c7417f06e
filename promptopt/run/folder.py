"""The run folder: `runs/<name>/`, its lock, and the settings it was started with."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from generators.stable_diffusion.facts import parts
from promptopt.base.differences import differences
from promptopt.base.files import sweep, sweep_dead, writable_folder, write_json
from promptopt.base.locks import LockedError, hold
from promptopt.base.reading import json_object
from promptopt.config.study_file import StudyError

DATABASE = "study.db"
PROMPTS = "prompts.json"
REPORT = "report.html"
FIRST_IMAGES = "first-images.png"
STUDY = "study.yaml"
SETTINGS = "settings.json"
PICTURES = "pictures.json"
LOCK = ".lock"

_NAMED = 5  # pictures named in an error

FORMAT = 2
"""Version of the run folder; stands in its settings.json."""

BUDGETS = ("trials", "max_images", "minutes", "stop", "margin")
"""Keys of `search` that may change when a study goes on: they say when it ends, not what it does."""


def run_folder(named: str | os.PathLike[str]) -> Path:
    """The folder of a run that is named by its path, or by its name alone: then it is in ``runs``."""
    path = Path(named)
    inside = Path("runs") / path
    return inside if not path.exists() and len(path.parts) == 1 and inside.is_dir() else path


def is_running(folder: Path) -> bool:
    """Whether a process is running the study of a run folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with hold(folder / LOCK):
            return False
    except LockedError:
        return True


@contextlib.contextmanager
def locked_run(runs: Path, name: str) -> Iterator[Path]:
    """The run folder, held by this process alone; the lock goes with the process, however it ends."""
    folder = writable_folder(runs / name, "the run folder", error=StudyError)
    for existing in (DATABASE, SETTINGS, PROMPTS):
        path = folder / existing
        if path.exists() and not os.access(path, os.W_OK):
            raise StudyError("is read-only, so the study cannot go on", file=path, remedy="Make it writable.")
    busy = StudyError(
        "another process is running this study", file=folder, remedy="Wait for it, or choose another name."
    )
    with hold(folder / LOCK, busy):
        sweep(folder)
        sweep_dead(folder)
        yield folder


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Compare with the settings the run was started with, or write them down if it is new.

    Raises:
        StudyError: something that changes results differs; lists the keys.
    """
    path = folder / SETTINGS
    new = json.loads(json.dumps({"format": FORMAT, **settings}))
    if not path.exists():
        if (folder / DATABASE).exists():
            raise StudyError(
                f"{path}: missing beside {DATABASE}, so its trials cannot be trusted. Choose another name."
            )
        write_json(path, new, sort_keys=True, ensure_ascii=False)
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(old, dict):
            raise ValueError("it holds no mapping")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}). Choose another name for the study.") from error
    if old.get("format") != FORMAT:
        raise StudyError(
            f"{path}: written by an earlier version of promptopt, whose runs this one cannot go on with. "
            "Run the study again under another name (--name)."
        )
    differing = differences(old, new)
    if differing:
        listed = "\n".join(f"  {line}" for line in differing)
        if (before := _of_versions(old, "gpu")) != (now := _of_versions(new, "gpu")):
            raise StudyError(
                f"{folder}: this study is pinned to {_kinds(before)}, which made its first images, and here "
                f"{_kinds(now)} would make the others: another kind rounds otherwise, so they could not be "
                "compared. Go on where it began (--device, or --on 'ray?gpus=8&gpu=H100' with its kind), or "
                f"choose another name (--name).\n{listed}"
            )
        if (threads := _of_versions(old, "threads")) != _of_versions(new, "threads"):
            count = ", ".join(sorted(threads)) or "1"
            raise StudyError(
                f"{folder}: this study began with {count} threads of the CPU, and another number rounds "
                f"otherwise. Set OMP_NUM_THREADS={count}, or choose another name (--name).\n{listed}"
            )
        raise StudyError(
            f"{folder}: this study was started with other settings, and its trials do not fit the new ones:\n"
            f"{listed}\nChoose another name (--name), or put the settings back. "
            f"Only these may change: {', '.join(f'search.{name}' for name in BUDGETS)}."
        )


def check_pictures(folder: Path, digests: Mapping[str, str]) -> None:
    """Compare the real pictures with those the run was started with, or write their checksums down.

    Raises:
        StudyError: pictures were changed, removed or added; names them.
    """
    path = folder / PICTURES
    if not path.exists():
        write_json(path, dict(digests), ensure_ascii=False)
        return
    old = json_object(path, error=StudyError, remedy="Choose another name for the study.")
    changed = sorted(name for name in {*old, *digests} if old.get(name) != digests.get(name))
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise StudyError(
            f"{folder}: real images are not those that this study was started with: "
            f"{', '.join(changed[:_NAMED])}{more}. Its trials were measured against the old ones. Put them "
            "back, or choose another name (--name)."
        )


def _of_versions(settings: Mapping[str, Any], name: str) -> set[str]:
    """What all `versions` of a generator's requests say of one thing."""
    found: set[str] = set()
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _of_versions(value, name)
        elif key == "versions" and isinstance(value, str):
            found |= {parts(value).get(name, "")} - {""}
    return found


def _kinds(gpus: set[str]) -> str:
    return f"the {', '.join(sorted(gpus))}" if gpus else "the CPU"
