"""How far a search for sets is, read from a run folder while the study may be running."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.base.files import scratch
from promptopt.config.study_file import StudyError, load_study
from promptopt.run import folder as runfolder
from promptopt.run.snapshot import copy_database


@dataclass(frozen=True)
class SearchedClass:
    """What the database has of one class: steps, distinct prompts, and images of these."""

    label: str
    steps: int
    prompts: int
    images: int


def read_set_progress(run: str | Path) -> tuple[SearchedClass, ...] | None:
    """One entry a class; None where the database is that of a search for single prompts.

    The database is copied and the copy read (see `promptopt.run.snapshot`), so a running study is neither
    held up nor changed.

    Raises:
        StudyError: no such file, not a study's database, or one that stays locked.
    """
    from promptopt.run.database import trusted

    path = Path(run) / runfolder.DATABASE
    if not path.is_file():
        raise StudyError(f"{run}: not a run folder, {runfolder.DATABASE} is missing. Run the study first.")
    with scratch() as folder:
        trials = _trials(copy_database(path, folder / runfolder.DATABASE), path)
    with trusted(path):
        looks = {
            label: [attrs["looks"] for attrs in own if attrs.get("looks")] for label, own in trials.items()
        }
        if not any(looks.values()) and (any(trials.values()) or not trials or not _searches_sets(run)):
            return None
        return tuple(
            SearchedClass(
                label=label,
                steps=1 + max((step for own in rows for step, *_ in own), default=-1),
                prompts=len(rows),
                images=sum(max(images for *_, images in own) for own in rows),
            )
            for label, rows in looks.items()
        )


def _searches_sets(run: str | Path) -> bool:
    """What the study file in the run folder says; for a database that is still empty."""
    with contextlib.suppress(StudyError):
        return load_study(Path(run) / runfolder.STUDY).aim == "set"
    return False


def _trials(copy: Path, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Study -> what its trials say."""
    import optuna

    from promptopt.run.database import open_storage, trusted

    with trusted(path):
        storage = open_storage(copy, shown=path)
        try:
            return {
                name: [
                    dict(trial.user_attrs)
                    for trial in optuna.load_study(study_name=name, storage=storage).get_trials(
                        deepcopy=False
                    )
                ]
                for name in optuna.get_all_study_names(storage)
            }
        finally:
            storage.engine.dispose()
