"""What a preparation may write over: nothing but its own result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies.dataset import METADATA, DatasetError

IMAGES = "images"
REPORT = "prepare-report.json"


def check_target(out: Path, source: Path | None, preparation: Mapping[str, Any]) -> None:
    """``out`` must be new, empty or the result of the same preparation, nothing added; else DatasetError.

    ``source``: the folder that is read, which may not hold ``out`` or lie in it; None where there is none.
    """
    here = out.resolve()
    there = None if source is None else source.resolve()
    if there is not None and (here.is_relative_to(there) or there.is_relative_to(here)):
        raise DatasetError(
            f"{out}: and the source {source} lie one inside the other; choose a folder outside it"
        )
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out}: is a file; choose a new folder")
    entries = {path.name for path in out.iterdir()}
    if not entries:
        return
    remedy = "choose another folder, or delete this one"
    if REPORT not in entries:
        raise DatasetError(f"{out}: is not empty and holds no {REPORT}; {remedy}")
    try:
        before = json.loads((out / REPORT).read_text("utf-8"))["preparation"]
        earlier = {key: before[key] for key in preparation}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{out / REPORT}: is not a report of a preparation ({error!r}); {remedy}"
        ) from None
    for key, value in preparation.items():
        if earlier[key] != value:
            raise DatasetError(f"{out}: was prepared with {key} {earlier[key]!r}, not {value!r}; {remedy}")
    if added := entries - {IMAGES, METADATA, REPORT}:
        raise DatasetError(
            f"{out}: holds {sorted(added)[0]!r}, which the preparation did not write; {remedy}"
        )
    if added := _pictures(out) - _recorded(out):
        raise DatasetError(
            f"{out}: holds {sorted(added)[0]!r}, which the preparation did not write; {remedy}"
        )


def _pictures(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in (out / IMAGES).rglob("*") if path.is_file()}


def _recorded(out: Path) -> set[str]:
    try:
        lines = (out / METADATA).read_text("utf-8").splitlines()
        return {str(json.loads(line)["file_name"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
