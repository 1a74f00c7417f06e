"""A run's trials, read while the study may be running.

SQLite's own backup copies the database page by page under a shared lock and starts again where a writer came
between, so the copy is whole; the study waits for no longer than one such step. Optuna would open the file
for writing, so it is shown the copy alone.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from promptopt.config.study_file import StudyError
from promptopt.run import folder as runfolder
from promptopt.run.trials import TrialRow, row_of

_WAIT = 60.0  # seconds for a writer to finish


@dataclass(frozen=True)
class RunTrials:
    """The finished trials of a run, as Optuna has them.

    Attributes:
        directions: "maximize" or "minimize" of each objective.
        metric_names: of the objectives, where the study names them.
    """

    trials: tuple[Any, ...]
    directions: tuple[str, ...]
    metric_names: tuple[str, ...] | None


def read_trials(run: str | Path) -> RunTrials:
    """Copy `RUN/study.db` and read the copy; the file itself is opened for reading alone.

    Raises:
        StudyError: no such file, not a study's database, or one that stays locked.
    """
    path = Path(run) / runfolder.DATABASE
    if not path.is_file():
        raise StudyError(f"{run}: not a run folder, {runfolder.DATABASE} is missing. Run the study first.")
    with tempfile.TemporaryDirectory(prefix="promptopt-") as folder:
        copy = Path(folder) / runfolder.DATABASE
        copy_database(path, copy)
        return _read(copy, path)


def read_rows(run: str | Path) -> list[TrialRow]:
    """The rows of a run's search, in order. Raises what `read_trials` does."""
    return [row_of(number, trial) for number, trial in enumerate(read_trials(run).trials)]


def copy_database(path: Path, copy: Path) -> Path:
    """A consistent copy of an SQLite database in use. Raises StudyError where it cannot be read."""
    try:
        with (
            closing(
                sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=_WAIT)
            ) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target, pages=512, sleep=0.05)
    except sqlite3.Error as error:
        raise StudyError(
            f"{path}: cannot be read ({error}). If a study is running, try again; if not, the file is "
            "damaged and the study has to be run again."
        ) from error
    return copy


def _read(copy: Path, path: Path) -> RunTrials:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{copy}")
        try:
            names = optuna.get_all_study_names(storage)
            if not names:
                raise StudyError(f"{path}: holds no study yet. Wait for its first prompt, or run it again.")
            study = optuna.load_study(study_name="search" if "search" in names else names[0], storage=storage)
            trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
            named = study.metric_names
            return RunTrials(
                trials=tuple(trial for trial in trials if "prompt" in trial.user_attrs),
                directions=tuple(direction.name.lower() for direction in study.directions),
                metric_names=None if named is None else tuple(named),
            )
        finally:
            storage.engine.dispose()
    except (SQLAlchemyError, RuntimeError) as error:
        raise StudyError(f"{path}: not the database of a study ({type(error).__name__}).") from error
