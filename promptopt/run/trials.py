"""The record of a search: one row each time a prompt got images, kept in Optuna's database."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from evaluation.estimate import Estimate
from promptopt.base.errors import ArgumentError
from promptopt.config.study_file import StudyError
from promptopt.space import Candidate, PromptSpace


@dataclass(frozen=True)
class TrialRow:
    """One prompt measured: for the first time, or again on more images.

    Attributes:
        number: 0-based, in order of completion.
        score: weighted sum of paired differences from the baseline, in baseline SDs.
        estimates: every metric by name.
        per_image: per-image contributions by name, in the order of the search seeds; rows of different
            length share the first ones. `score` and the `gain:...` of each term are differences from the
            baseline in its SDs, more being better.
        duplicate_of: number of the trial that had scored this very prompt, if any.
        continues: number of the row that this one extends by further images, if any.
        step, step_size: which decision of the search it belongs to, and of how many rows that consists.
        eliminated_by: the prompt that is shown to be better (anytime-valid bounds on the same seeds), if any.
        violations: constraints that it breaks, in words.
        seconds: wall time it took.
    """

    number: int
    candidate: Candidate
    choice: Mapping[str, str]
    score: Estimate
    estimates: Mapping[str, Estimate]
    per_image: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    duplicate_of: int | None = None
    continues: int | None = None
    step: int = 0
    step_size: int = 1
    eliminated_by: Candidate | None = None
    violations: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def value(self) -> float:
        """The score, as the sampler has it."""
        if self.score.value is None:
            raise ArgumentError(f"trial {self.number} has no score")
        return self.score.value

    @property
    def images(self) -> int:
        """How many images it is judged on."""
        return len(self.per_image["score"]) if "score" in self.per_image else self.score.n

    def terms(self) -> dict[str, tuple[float, ...]]:
        """Per-image gains over the baseline by term of the score."""
        return {
            name.removeprefix(GAIN): values
            for name, values in self.per_image.items()
            if name.startswith(GAIN)
        }


GAIN = "gain:"  # before a term's name: its per-image gain over the baseline


def latest(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """One row a prompt, the one with the most images, in the order in which prompts came up."""
    found: dict[str, TrialRow] = {}
    for row in rows:
        if row.duplicate_of is None:
            found[row.candidate.normalized_key] = row
    return list(found.values())


class TrialLog:
    """The rows of one study, in an Optuna SQLite database (opens in optuna-dashboard).

    Args:
        terms: names of the terms of a study with a Pareto front; none for one score.
    """

    def __init__(self, path: Path, *, space: PromptSpace, terms: Sequence[str] = ()) -> None:
        self._space = space
        self._terms = tuple(terms)
        with quiet():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self._study = optuna.create_study(
                storage=storage,
                study_name="search",
                directions=["maximize"] * max(1, len(self._terms)),
                load_if_exists=True,
            )
            if self._terms:
                self._study.set_metric_names(list(self._terms))
        self.rows: list[TrialRow] = [row_of(i, t) for i, t in enumerate(self._complete())]

    def _complete(self) -> list[Any]:
        states = (optuna.trial.TrialState.COMPLETE,)
        return list(self._study.get_trials(deepcopy=False, states=states))

    @property
    def distinct(self) -> list[TrialRow]:
        """One row a prompt, with all its images."""
        return latest(self.rows)

    def add(self, row: TrialRow, /) -> None:
        """Write one row, all or nothing."""
        # One attribute, not ten: each costs a database query or two.
        content = {
            "score": row.score.to_json(),
            "estimates": {name: e.to_json() for name, e in row.estimates.items()},
            "per_image": {name: list(values) for name, values in row.per_image.items()},
            "duplicate_of": row.duplicate_of,
            "continues": row.continues,
            "step": [row.step, row.step_size],
            "eliminated_by": None if row.eliminated_by is None else row.eliminated_by.to_json(),
            "violations": list(row.violations),
            "seconds": row.seconds,
        }
        attributes = {
            "prompt": row.candidate.label,
            "candidate": row.candidate.to_json(),
            "images": row.images,
            "row": content,
        }
        with quiet():
            self._study.add_trial(
                frozen(self._space, row, values=values_of(row, self._terms), attributes=attributes)
            )
        self.rows.append(row)


def values_of(row: TrialRow, terms: Sequence[str]) -> list[float]:
    """What Optuna gets: the score, or the mean gain in each term."""
    if not terms:
        return [row.value]
    gains = row.terms()
    return [sum(gains[name]) / len(gains[name]) for name in terms]


def frozen(
    space: PromptSpace, row: TrialRow, *, values: Sequence[float], attributes: Mapping[str, Any] | None = None
) -> Any:
    """A completed Optuna trial."""
    return optuna.trial.create_trial(
        params=dict(row.choice),
        distributions=distributions(space),
        values=list(values),
        user_attrs=dict(attributes or {}),
    )


def distributions(space: PromptSpace) -> dict[str, Any]:
    """Each slot as a categorical parameter."""
    return {s.name: optuna.distributions.CategoricalDistribution(s.options) for s in space.slots}


def row_of(number: int, trial: Any) -> TrialRow:
    """The row that a completed Optuna trial of a study holds.

    Raises:
        StudyError: an earlier version wrote it.
    """
    if not {"row", "candidate"} <= set(trial.user_attrs):
        raise StudyError(
            f"trial {number} was written by an earlier version of promptopt, which this one cannot read. Run "
            "the study again under another name."
        )
    content = trial.user_attrs["row"]
    step, step_size = content["step"]
    winner = content["eliminated_by"]
    return TrialRow(
        number=number,
        candidate=Candidate.from_json(trial.user_attrs["candidate"]),
        choice=dict(trial.params),
        score=Estimate.from_json(content["score"]),
        estimates={k: Estimate.from_json(v) for k, v in content["estimates"].items()},
        per_image={k: tuple(v) for k, v in content["per_image"].items()},
        duplicate_of=content["duplicate_of"],
        continues=content["continues"],
        step=step,
        step_size=step_size,
        eliminated_by=None if winner is None else Candidate.from_json(winner),
        violations=tuple(content["violations"]),
        seconds=content["seconds"],
    )


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
