"""The search: which prompt to try next, and the record of what was tried.

The next prompt is a pure function of the space, the completed trials and the seed. A trial enters the
database in one transaction after its images are measured, so a killed run leaves nothing half done and goes
on exactly where an uninterrupted one would be.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from evaluation.estimate import Estimate
from promptopt.panel import derived_seed
from promptopt.template import PromptSpace

ENUMERABLE = 20_000  # spaces up to this size are listed in full
STARTUP_TRIALS = 10  # prompts drawn by the template's weights before a model is fitted
_REPEATS = 3  # known prompts suggested in a row before an untried one is drawn


@dataclass(frozen=True)
class TrialRow:
    """One completed trial.

    Attributes:
        number: 0-based, in order of completion.
        score: weighted sum of paired differences from the baseline, in baseline SDs.
        estimates: every metric by name.
        per_image: per-image contributions by name, in the order of the search seeds.
        duplicate_of: number of the trial that had scored this very prompt, if any.
    """

    number: int
    prompt: str
    choice: Mapping[str, str]
    score: Estimate
    estimates: Mapping[str, Estimate]
    per_image: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    duplicate_of: int | None = None

    @property
    def value(self) -> float:
        """The score told to the sampler."""
        if self.score.value is None:
            raise ValueError(f"trial {self.number} has no score")
        return self.score.value


class TrialLog:
    """The completed trials of one study, in an Optuna SQLite database (opens in optuna-dashboard)."""

    def __init__(self, path: Path) -> None:
        with _quiet():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self._study = optuna.create_study(
                storage=storage, study_name="search", direction="maximize", load_if_exists=True
            )
        self.rows: list[TrialRow] = [_from_trial(i, t) for i, t in enumerate(self._complete())]

    def _complete(self) -> list[Any]:
        states = (optuna.trial.TrialState.COMPLETE,)
        return list(self._study.get_trials(deepcopy=False, states=states))

    @property
    def distinct(self) -> list[TrialRow]:
        """Rows of prompts scored for the first time."""
        return [row for row in self.rows if row.duplicate_of is None]

    def add(self, space: PromptSpace, row: TrialRow) -> None:
        """Write one trial, all or nothing."""
        attributes = {
            "prompt": row.prompt,
            "score": row.score.to_json(),
            "estimates": {name: e.to_json() for name, e in row.estimates.items()},
            "per_image": {name: list(values) for name, values in row.per_image.items()},
            "duplicate_of": row.duplicate_of,
        }
        with _quiet():
            self._study.add_trial(_to_trial(space, row, attributes))
        self.rows.append(row)


def next_choice(
    space: PromptSpace,
    rows: Sequence[TrialRow],
    *,
    sampler: str,
    seed: int,
    untried: Sequence[Mapping[str, str]] | None,
) -> dict[str, str]:
    """The slot choice to try after the completed trials `rows`.

    Before there is a model, it is the likeliest prompt, then draws: a template's weights are its author's
    opinion of where to begin.

    Args:
        sampler: "gp", "tpe", "random" or "enumerate".
        seed: of the sampler; the draw is a function of it and of the number of rows.
        untried: the choices not yet scored when the space could be listed, else None.
    """
    here = derived_seed(seed, len(rows))
    rng = np.random.default_rng(here)
    repeats = _trailing_repeats(rows)
    if sampler == "enumerate" or repeats >= _REPEATS:
        return _untried(space, rows, untried, rng)
    if sampler == "random":
        return dict(space.sample(rng))
    if not rows:
        return space.likeliest()
    if len(rows) < STARTUP_TRIALS:
        return dict(space.sample(rng))
    with _quiet():
        study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, here))
        for row in rows:
            study.add_trial(_to_trial(space, row, {}))
        trial = study.ask(_distributions(space))
    return {slot.name: str(trial.params[slot.name]) for slot in space.slots}


def _untried(
    space: PromptSpace,
    rows: Sequence[TrialRow],
    untried: Sequence[Mapping[str, str]] | None,
    rng: np.random.Generator,
) -> dict[str, str]:
    if untried is not None:
        return dict(untried[int(rng.integers(len(untried)))])
    seen = {row.prompt for row in rows}
    choice = space.sample(rng)
    for _ in range(
        1000
    ):  # the space holds more than 20,000: a new prompt comes at once unless weights forbid it
        if space.label(choice) not in seen:
            break
        choice = space.sample(rng)
    return dict(choice)


def _trailing_repeats(rows: Sequence[TrialRow]) -> int:
    count = 0
    for row in reversed(rows):
        if row.duplicate_of is None:
            break
        count += 1
    return count


def _sampler(name: str, seed: int) -> Any:
    if name == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, warn_independent_sampling=False
    )


def _distributions(space: PromptSpace) -> dict[str, Any]:
    return {s.name: optuna.distributions.CategoricalDistribution(s.options) for s in space.slots}


def _to_trial(space: PromptSpace, row: TrialRow, attributes: dict[str, Any]) -> Any:
    return optuna.trial.create_trial(
        params=dict(row.choice), distributions=_distributions(space), value=row.value, user_attrs=attributes
    )


def _from_trial(number: int, trial: Any) -> TrialRow:
    attributes = trial.user_attrs
    return TrialRow(
        number=number,
        prompt=attributes["prompt"],
        choice=dict(trial.params),
        score=Estimate.from_json(attributes["score"]),
        estimates={k: Estimate.from_json(v) for k, v in attributes["estimates"].items()},
        per_image={k: tuple(v) for k, v in attributes["per_image"].items()},
        duplicate_of=attributes["duplicate_of"],
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's progress lines and experimental warnings out of the terminal; put things back after."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
