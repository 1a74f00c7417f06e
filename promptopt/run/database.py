"""A run's Optuna database: its address, and trials that grow with a prompt's images."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy

from promptopt.base.files import new_file
from promptopt.base.machine import full_disk, is_full_disk, little_space
from promptopt.config.study_file import StudyError
from promptopt.space import Candidate, PromptSpace

BROKEN = "broken constraints"
_MAGIC = b"SQLite format 3\0"
_WAIT = 60  # seconds for another process's write to end


def address(path: Path) -> str:
    """The database's address for Optuna. A path may hold spaces, ?, # or %, so it is not put in as it is."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(path: Path, *, shown: Path | None = None) -> Any:
    """Optuna's storage in an SQLite file, which is made if missing, whole or not at all.

    Args:
        shown: the file that errors name, where `path` is a copy of it.

    Raises:
        DamagedError: what lies there is not such a database, or not whole.
        StudyError: while it is used: it cannot be written or read, or the disk is full.
    """
    if not os.path.lexists(path):
        with new_file(path) as partial:
            partial.unlink()
            _storage(partial).engine.dispose()
    shown = shown or path
    check_file(path)
    with trusted(shown):
        storage = _storage(path)

    def explain(context: Any) -> None:
        error = context.original_exception
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
            raise _failure(shown, error) from error

    sqlalchemy.event.listen(storage.engine, "handle_error", explain)
    return storage


def _storage(path: Path) -> Any:
    return optuna.storages.RDBStorage(address(path), engine_kwargs={"connect_args": {"timeout": _WAIT}})


class DamagedError(StudyError):
    """A run's database is not as this version wrote it."""

    def __init__(self, path: Path, fault: object) -> None:
        super().__init__(
            f"is damaged, or another version or program wrote it ({fault}), so its trials cannot be trusted",
            file=path,
            remedy="Put a copy of it back, or run the study again under another name (--name): images that "
            "are in the store are not made again.",
        )


@contextlib.contextmanager
def trusted(path: Path) -> Iterator[None]:
    """Read a database, none of whose content is trusted: whatever is wrong with it is a `DamagedError`."""
    try:
        yield
    except StudyError:
        raise
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        RuntimeError,  # Optuna's, of another version's tables
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as error:
        said = str(getattr(error, "orig", None) or error).split("\n")[0]
        raise DamagedError(path, f"{type(error).__name__}: {said[:200]}") from error


def check_file(path: Path) -> None:
    """What SQLite itself can tell of a run's database, all of it read once.

    Raises:
        DamagedError: it is not a database, not whole, or tables are missing, which Optuna would make anew.
        StudyError: it cannot be read.
    """
    if path.is_dir():
        raise DamagedError(path, "it is a folder")
    try:
        with path.open("rb") as stream:
            begins = stream.read(len(_MAGIC))
    except OSError as error:
        raise StudyError(
            f"cannot be read ({error.strerror})", file=path, remedy="Give yourself permission, or restore it."
        ) from error
    if begins != _MAGIC:
        raise DamagedError(path, "it is empty" if not begins else "it is not an SQLite database")
    try:
        # for writing: what a killed process left half done has to be undone first
        uri = f"file:{quote(str(path.resolve()))}?mode={'rw' if os.access(path, os.W_OK) else 'ro'}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_WAIT)) as connection:
            faults = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            strays = connection.execute("PRAGMA foreign_key_check").fetchall()
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            versions = (
                connection.execute("SELECT schema_version FROM version_info").fetchall()
                if "version_info" in tables
                else []
            )
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _failure(path, error) from error
    if faults != ["ok"]:
        raise DamagedError(path, str(faults[0]).replace("\n", " "))
    if missing := sorted({*_models().BaseModel.metadata.tables, "alembic_version"} - tables):
        raise DamagedError(path, f"the table {missing[0]} is missing")
    if versions != [(_models().SCHEMA_VERSION,)]:
        raise DamagedError(path, "its tables are of another version of Optuna")
    if strays:
        raise DamagedError(path, f"rows of {strays[0][0]} belong to nothing")


def _models() -> Any:
    from optuna.storages._rdb import models

    return models


def _failure(path: Path, error: Exception) -> StudyError:
    """What SQLite says, with a remedy."""
    said = str(error)
    if is_full_disk(error) or ("disk I/O error" in said and little_space(path.parent)):
        return StudyError(full_disk(OSError(errno.ENOSPC, said, str(path))))
    if "locked" in said or "busy" in said:
        return StudyError(
            "another program keeps it locked", file=path, remedy="Close it, then run the same command again."
        )
    if "readonly" in said or "unable to open" in said or "disk I/O error" in said:
        remedy = "Give yourself permission to the folder, look at the disk, then run the same command again."
        return StudyError(f"cannot be read and written ({said})", file=path, remedy=remedy)
    return DamagedError(path, said)


def distributions(space: PromptSpace) -> dict[str, Any]:
    """Each slot as a categorical parameter."""
    return {s.name: optuna.distributions.CategoricalDistribution(s.options) for s in space.slots}


def begin(study: Any, kinds: Mapping[str, Any], candidate: Candidate, choice: Mapping[str, str]) -> Any:
    """A running trial for a prompt, written in one transaction: no process can leave half of it.

    Args:
        kinds: distribution of each slot.
        choice: option of each slot; empty for a prompt that the template does not hold.
    """
    frozen = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=dict(choice),
        distributions={name: kinds[name] for name in choice},
        user_attrs={"prompt": candidate.label, "candidate": candidate.to_json()},
    )
    # Study.add_trial does this too, but does not say which trial it made
    return optuna.trial.Trial(study, study._storage.create_new_trial(study._study_id, frozen))


def running(study: Any, frozen: Any) -> Any:
    """A trial in Optuna's database that can still be written to."""
    return optuna.trial.Trial(study, frozen._trial_id)


def report(trial: Any, value: float, images: int) -> None:
    """The value on so many images, unless it was reported before a process was killed."""
    if images not in trial._cached_frozen_trial.intermediate_values:
        trial.report(value, step=images)


def broken(trial: Any, count: float) -> None:
    """How many constraints a prompt breaks: where it is none, Optuna takes the trial for feasible."""
    # as `optuna.Trial.set_constraint`, which reads the whole trial to see whether it has it
    name = f"constraints:{BROKEN}"
    if name not in trial._cached_frozen_trial.system_attrs:  # set before a process was killed
        trial.storage.set_trial_system_attr(trial._trial_id, name, float(count))


def end(trial: Any, values: Sequence[float] | None = None) -> None:
    """End a trial: COMPLETE with its values, or else PRUNED, with the last one that was reported.

    As `optuna.Study.tell`, which reads the trial twice, half of what it costs to write it.
    """
    known = trial._cached_frozen_trial
    state = optuna.trial.TrialState.PRUNED if values is None else optuna.trial.TrialState.COMPLETE
    if values is None and known.last_step is not None:
        values = [known.intermediate_values[known.last_step]]
    own = None if values is None else [float(value) for value in values]
    trial.storage.set_trial_state_values(trial._trial_id, state=state, values=own)


def reopen(storage: Any, trials: Collection[int]) -> None:
    """Let finished trials run again, as a study that goes on with a larger budget needs.

    Optuna has no call for it. Whoever holds a study of this storage has to load it anew: finished trials are
    remembered there.

    Args:
        trials: Optuna's ids, not numbers.
    """
    ids = {"ids": list(trials)}
    chosen = sqlalchemy.bindparam("ids", expanding=True)
    with storage.engine.begin() as connection:
        for text in (
            "DELETE FROM trial_values WHERE trial_id IN :ids",
            "DELETE FROM trial_system_attributes WHERE trial_id IN :ids AND key LIKE 'constraints:%'",
            "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE trial_id IN :ids",
        ):
            connection.execute(sqlalchemy.text(text).bindparams(chosen), ids)


def set_times(storage: Any, trial: int, *, started: Any, ended: Any) -> None:
    """When a trial began and ended, as another database has it; Optuna writes the time of the call.

    Args:
        trial: Optuna's id, not the number.
    """
    kind = sqlalchemy.DateTime()
    text = "UPDATE trials SET datetime_start = :started, datetime_complete = :ended WHERE trial_id = :trial"
    statement = sqlalchemy.text(text).bindparams(
        sqlalchemy.bindparam("started", type_=kind), sqlalchemy.bindparam("ended", type_=kind)
    )
    with storage.engine.begin() as connection:
        connection.execute(statement, {"started": started, "ended": ended, "trial": trial})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's progress lines and experimental warnings out of the terminal; put things back after."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
