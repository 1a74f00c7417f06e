"""One Optuna study brought up to date in another storage: what is there stays, what changed is written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from promptopt.publishing.target import PublishError
from promptopt.run.database import reopen, set_times

Extra = Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
"""(trial of the run, system attributes of its copy) -> further system attributes for the copy."""


@dataclass
class Copied:
    """Trials that an update added, and that it changed.

    Attributes:
        there: id and system attributes of every trial in the copy now, by number.
    """

    added: int = 0
    changed: int = 0
    there: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


def content(trial: Any) -> str:
    """All that a trial says but where it lies, as one text that can be compared."""
    kinds = {name: optuna.distributions.distribution_to_json(d) for name, d in trial.distributions.items()}
    said = {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "parameters": trial.params,
        "distributions": kinds,
        "intermediate": sorted(trial.intermediate_values.items()),
        "user": trial.user_attrs,
        "system": trial.system_attrs,
        "times": [str(trial.datetime_start), str(trial.datetime_complete)],
    }
    return json.dumps(said, sort_keys=True)


def bring_up_to_date(
    storage: Any, study_id: int, trials: Sequence[Any], *, name: str, extra: Extra | None = None
) -> Copied:
    """Add and change trials of a study until they are those of another.

    Whatever else the copy's trials carry stays. A process that ends in between leaves nothing that the next
    call does not put right.

    Args:
        storage: Optuna's, of the copy.
        study_id: the copy, which nobody else writes to.
        trials: `optuna.trial.FrozenTrial`, by number; not changed.
        name: of the copy, for errors.
        extra: what the copy's trials carry besides, such as pictures.

    Raises:
        PublishError: the copy has trials of another run.
    """
    copied = Copied()
    there = storage.get_all_trials(study_id, deepcopy=False)
    if len(there) > len(trials):
        raise _strange(name, f"it has {len(there)} trials, the run {len(trials)}")
    for old, new in zip(there, trials, strict=False):
        if _origin(old) != _origin(new):
            raise _strange(name, f"trial {old.number} is another one")
    if extra is not None:
        trials = [copy.deepcopy(trial) for trial in trials]
        for new in trials:
            before = there[new.number].system_attrs if new.number < len(there) else {}
            new.system_attrs = {**new.system_attrs, **extra(new, before)}
    changed = [(old, new) for old, new in zip(there, trials, strict=False) if not _holds(old, new)]
    again = [old._trial_id for old, _ in changed if old.state.is_finished()]
    if again:  # a search had ended with them and went on, or somebody changed them
        reopen(storage, again)
    for old, new in changed:
        _grow(storage, old, new)
        copied.changed += 1
    for old, new in zip(there, trials, strict=False):
        copied.there.append((old._trial_id, {**old.system_attrs, **new.system_attrs}))
    for new in trials[len(there) :]:
        number = storage.create_new_trial(study_id, template_trial=new)
        copied.there.append((number, new.system_attrs))
        copied.added += 1
    return copied


def _origin(trial: Any) -> str:
    """What of a trial never changes: its prompt and when it began, or else its parameters."""
    prompt = trial.user_attrs.get("candidate", trial.params)
    return json.dumps([prompt, str(trial.datetime_start)], sort_keys=True)


def _holds(old: Any, new: Any) -> bool:
    """Whether the copy's trial has all that the run's has, and nothing that contradicts it."""
    shared = {
        "user_attrs": {key: old.user_attrs.get(key) for key in new.user_attrs},
        "system_attrs": {key: old.system_attrs.get(key) for key in new.system_attrs},
    }
    alike = optuna.trial.FrozenTrial(
        number=old.number,
        trial_id=old._trial_id,
        state=old.state,
        value=None,
        values=old.values,
        datetime_start=old.datetime_start,
        datetime_complete=old.datetime_complete,
        params=old.params,
        distributions=old.distributions,
        intermediate_values=old.intermediate_values,
        **shared,
    )
    return content(alike) == content(new)


def _grow(storage: Any, old: Any, new: Any) -> None:
    """Write what is new or other in a trial that runs, or runs again; its end comes last."""
    trial = old._trial_id
    ended = old.state.is_finished()  # before it was opened again, which takes constraints away
    for name, value in new.params.items():
        if name not in old.params:
            kind = new.distributions[name]
            storage.set_trial_param(trial, name, kind.to_internal_repr(value), kind)
    for key, value in new.user_attrs.items():
        if key not in old.user_attrs or old.user_attrs[key] != value:
            storage.set_trial_user_attr(trial, key, value)
    for key, value in new.system_attrs.items():
        if ended or key not in old.system_attrs or old.system_attrs[key] != value:
            storage.set_trial_system_attr(trial, key, value)
    for step, value in new.intermediate_values.items():
        if old.intermediate_values.get(step) != value:
            storage.set_trial_intermediate_value(trial, step, value)
    if new.state != optuna.trial.TrialState.RUNNING:
        storage.set_trial_state_values(trial, new.state, new.values)
        set_times(storage, trial, started=new.datetime_start, ended=new.datetime_complete)


def _strange(name: str, what: str) -> PublishError:
    return PublishError(
        f"{name}: holds trials of another run ({what})",
        remedy="Where the run was made anew in the same folder, remove its run.json: then it is published as "
        "a new one. Otherwise delete this study in the dashboard and publish again.",
    )
