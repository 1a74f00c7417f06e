"""A run's trials, read while the study may be running.

SQLite's own backup copies the database page by page under a shared lock and starts again where a writer came
between, so the copy is whole; the study waits for no longer than one such step. Optuna would open the file
for writing, so it is shown the copy alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from promptopt.base.files import scratch
from promptopt.config.study_file import StudyError
from promptopt.run import folder as runfolder
from promptopt.run.database import check_file, open_storage, trusted
from promptopt.run.trials import TrialRow, rows_of

Read = TypeVar("Read")

_WAIT = 60.0  # seconds for a writer to finish


@dataclass(frozen=True)
class RunTrials:
    """One Optuna study of a run: a trial a prompt, running ones included.

    Attributes:
        name: of the run, or of the class of a study that searches sets.
        rows: of a study of single prompts, in order; none of one that searches a set.
        directions: "maximize" or "minimize" of each objective.
        metric_names: of the objectives, where the study names them.
    """

    name: str
    trials: tuple[Any, ...]
    rows: tuple[TrialRow, ...]
    directions: tuple[str, ...]
    metric_names: tuple[str, ...] | None

    @property
    def of_set(self) -> bool:
        """Whether it searches a set of prompts."""
        return any("looks" in trial.user_attrs for trial in self.trials)


@dataclass(frozen=True)
class StudyCopy:
    """One Optuna study of a run, with trials that failed too.

    Attributes:
        name: of the run, or of the class of a study that searches sets.
        trials: `optuna.trial.FrozenTrial`, by number.
        directions: `optuna.study.StudyDirection` of each objective.
        metric_names: of the objectives; empty where the study does not name them.
        attributes: of the study, a user's.
    """

    name: str
    trials: tuple[Any, ...]
    directions: tuple[Any, ...]
    metric_names: tuple[str, ...]
    attributes: Mapping[str, Any]


def read_studies(run: str | Path) -> list[RunTrials]:
    """Copy `RUN/study.db` and read the copy; the file itself is opened for reading alone.

    Raises:
        StudyError: no such file, not a study's database, one of an earlier version, or one that stays locked.
    """
    return _read(run, _study)


def read_copies(run: str | Path) -> list[StudyCopy]:
    """The same as Optuna has them, with all that they hold. Raises what `read_studies` does."""
    return _read(run, _whole)


def read_rows(run: str | Path) -> list[TrialRow]:
    """The rows of a run's search for one prompt, in order. Raises what `read_studies` does."""
    return [row for study in read_studies(run) for row in study.rows]


def copy_database(path: Path, copy: Path) -> Path:
    """A consistent copy of an SQLite database in use. Raises StudyError where it cannot be read."""
    check_file(path)
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


def database_of(run: str | Path) -> Path:
    """`RUN/study.db`. Raises StudyError where there is none."""
    path = Path(run) / runfolder.DATABASE
    if not path.is_file():
        raise StudyError(f"{run}: not a run folder, {runfolder.DATABASE} is missing. Run the study first.")
    return path


def _read(run: str | Path, read: Callable[[Any], Read]) -> list[Read]:
    path = database_of(run)
    import optuna

    with scratch() as folder:
        copy = copy_database(path, folder / runfolder.DATABASE)
        with trusted(path):
            storage = open_storage(copy, shown=path)
            try:
                names = optuna.get_all_study_names(storage)
                if not names:
                    raise StudyError(
                        f"{path}: holds no study yet. Wait for its first prompt, or run it again."
                    )
                return [read(optuna.load_study(study_name=name, storage=storage)) for name in names]
            finally:
                storage.engine.dispose()


def _whole(study: Any) -> StudyCopy:
    return StudyCopy(
        name=study.study_name,
        trials=tuple(study.get_trials()),
        directions=tuple(study.directions),
        metric_names=tuple(study.metric_names or ()),
        attributes=study.user_attrs,
    )


def _study(study: Any) -> RunTrials:
    trials = study.get_trials(deepcopy=False)
    of_set = any("looks" in trial.user_attrs for trial in trials)
    named = study.metric_names
    return RunTrials(
        name=study.study_name,
        trials=tuple(trial for trial in trials if trial.state.name != "FAIL"),
        rows=() if of_set else tuple(rows_of(study)),
        directions=tuple(direction.name.lower() for direction in study.directions),
        metric_names=None if named is None else tuple(named),
    )
