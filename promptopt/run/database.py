"""A run's Optuna database: its address, and trials that grow with a prompt's images."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy

from promptopt.space import Candidate, PromptSpace

BROKEN = "broken constraints"
_WAIT = 60  # seconds for another process's write to end


def address(path: Path) -> str:
    """The database's address for Optuna. A path may hold spaces, ?, # or %, so it is not put in as it is."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(path: Path) -> Any:
    """Optuna's storage in an SQLite file, which is made if missing."""
    return optuna.storages.RDBStorage(address(path), engine_kwargs={"connect_args": {"timeout": _WAIT}})


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
    if images not in trial.storage.get_trial(trial._trial_id).intermediate_values:
        trial.report(value, step=images)


def broken(trial: Any, count: float) -> None:
    """How many constraints a prompt breaks: where it is none, Optuna takes the trial for feasible."""
    if BROKEN not in trial.constraints:  # set before a process was killed
        trial.set_constraint(BROKEN, count)


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
