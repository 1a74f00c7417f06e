"""The record of a search for one prompt: a row each time a prompt got images, in Optuna's database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from evaluation.estimate import Estimate
from promptopt.base.errors import ArgumentError
from promptopt.config.study_file import StudyError
from promptopt.run.database import (
    begin,
    broken,
    distributions,
    end,
    open_storage,
    quiet,
    reopen,
    report,
    running,
    trusted,
)
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
    """The rows of one study, in an Optuna database that any Optuna user can open.

    There is one trial a prompt. It begins when the prompt is proposed, and its intermediate values, by number
    of images, are its scores. It ends PRUNED when the prompt is shown to be worse than another, else COMPLETE
    with its last score: at once where no more images can follow, otherwise with the search. The constraint
    `broken constraints` says how many it breaks. With a Pareto front there are no intermediate values, which
    Optuna has for one objective alone.

    Rows of a last step that a killed process did not write to the end are dropped; it is taken again.

    Args:
        path: the SQLite file; made if missing.
        name: of the run, which the Optuna study is called by.
        terms: names of the terms of a study with a Pareto front; none for one score.

    Raises:
        StudyError: an earlier version wrote the database, or it is damaged.
    """

    def __init__(self, path: Path, *, name: str, space: PromptSpace, terms: Sequence[str] = ()) -> None:
        self._kinds = distributions(space)
        self._terms = tuple(terms)
        self._closing: list[str] = []
        with quiet(), trusted(path):
            self._storage = open_storage(path)
            # a run folder may have been renamed since
            self._name = next(iter(optuna.get_all_study_names(self._storage)), name)
            self.rows: list[TrialRow] = self._kept(self._load())

    def _load(self) -> list[TrialRow]:
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=self._name,
            directions=["maximize"] * max(1, len(self._terms)),
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: prompts come from the search
        )
        if self._terms and self._study.metric_names is None:
            self._study.set_metric_names(list(self._terms))
        rows = rows_of(self._study)
        self._finished: dict[str, int] = {}
        self._open: dict[str, Any] = {}
        for trial in self._study.get_trials(deepcopy=False):
            key = Candidate.from_json(trial.user_attrs["candidate"]).normalized_key
            if trial.state == optuna.trial.TrialState.RUNNING:
                self._open[key] = running(self._study, trial)
            elif trial.state != optuna.trial.TrialState.FAIL:
                self._finished[key] = trial._trial_id
        return rows

    def _kept(self, rows: Sequence[TrialRow]) -> list[TrialRow]:
        """All rows but those of a step that was not written to the end; these leave the database."""
        kept = complete(rows)
        for row in rows[len(kept) :]:
            if row.duplicate_of is None:
                trial = self._open[row.candidate.normalized_key]
                own = [one for one in trial.user_attrs[ROWS] if one["number"] < len(kept)]
                trial.set_user_attr(ROWS, own)
        repeats = self._study.user_attrs.get(REPEATS, [])
        left = [one for one in repeats if one["number"] < len(kept)]
        if left != repeats:
            self._study.set_user_attr(REPEATS, left)
        return kept

    @property
    def distinct(self) -> list[TrialRow]:
        """One row a prompt, with all its images."""
        return latest(self.rows)

    def begin(self, wanted: Sequence[tuple[Candidate, Mapping[str, str]]], /) -> None:
        """Begin the trials of prompts that are measured next, or let finished ones run again."""
        with quiet():
            keys = {candidate.normalized_key for candidate, _ in wanted}
            if again := [self._finished[key] for key in keys & self._finished.keys()]:
                reopen(self._storage, again)
                self._load()
            for candidate, choice in wanted:
                key = candidate.normalized_key
                if key not in self._open:
                    self._open[key] = begin(self._study, self._kinds, candidate, choice)

    def add(self, row: TrialRow, /, *, final: bool = False) -> None:
        """Write one row, all or nothing; `final` where no more images can follow."""
        with quiet():
            if row.duplicate_of is not None:
                # not with the prompt's trial, which may have ended
                repeats = self._study.user_attrs.get(REPEATS, [])
                repeat = {**_content(row), "candidate": row.candidate.to_json(), "choice": dict(row.choice)}
                self._study.set_user_attr(REPEATS, [*repeats, repeat])
            else:
                trial = self._open[row.candidate.normalized_key]
                earlier = trial.user_attrs.get(ROWS, [])
                trial.set_user_attr(ROWS, [*earlier, _content(row)])
                if not self._terms:
                    report(trial, row.value, row.images)
            self.rows.append(row)
            if final and row.duplicate_of is None:
                self._closing.append(row.candidate.normalized_key)
            # a step is dropped whole if the process is killed in it, so its trials end when it is whole
            if len(complete(self.rows)) == len(self.rows):
                self._close(self._closing)
                self._closing = []

    def finish(self) -> None:
        """End the trials that are still open; those without a row, of a killed process, fail."""
        with quiet():
            self._close(list(self._open))

    def _close(self, keys: Sequence[str]) -> None:
        rows = {row.candidate.normalized_key: row for row in self.distinct} if keys else {}
        for key in keys:
            trial = self._open.pop(key)
            row = rows.get(key)
            if row is None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            self._finished[key] = trial._trial_id
            broken(trial, len(row.violations))
            end(trial, None if row.eliminated_by is not None else values_of(row, self._terms))


ROWS = "rows"  # a trial's attribute: what was measured of its prompt, each time with more images
REPEATS = "repeats"  # a study's attribute: rows of prompts that were known when they were proposed


def complete(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """The rows without those of a last step that was not written to the end."""
    if not rows:
        return []
    last = [row for row in rows if row.step == rows[-1].step]
    return list(rows) if len(last) >= rows[-1].step_size else list(rows[: len(rows) - len(last)])


def values_of(row: TrialRow, terms: Sequence[str]) -> list[float]:
    """What Optuna gets: the score, or the mean gain in each term."""
    if not terms:
        return [row.value]
    gains = row.terms()
    return [sum(gains[name]) / len(gains[name]) for name in terms]


def rows_of(study: Any) -> list[TrialRow]:
    """The rows that an Optuna study holds, in order.

    Raises:
        StudyError: an earlier version wrote it, or another search.
    """
    found = [row_of(one, choice=one["choice"], candidate=one["candidate"]) for one in _repeats(study)]
    for trial in study.get_trials(deepcopy=False):
        found += rows_of_trial(trial)
    found.sort(key=lambda row: row.number)
    if [row.number for row in found] != list(range(len(found))):
        raise ArgumentError(f"of {len(found)} rows some are missing or there twice")
    return found


def rows_of_trial(trial: Any) -> list[TrialRow]:
    """The rows of one prompt, each with more images than the one before; none before it is measured.

    Raises what `rows_of` does.
    """
    attributes = trial.user_attrs
    if "candidate" not in attributes or (ROWS not in attributes and trial.state.is_finished()):
        if trial.state == optuna.trial.TrialState.FAIL and "candidate" in attributes:
            return []
        raise StudyError(
            f"trial {trial.number} was written by an earlier version of promptopt, which this one cannot "
            "read. Run the study again under another name."
        )
    rows = attributes.get(ROWS, [])
    return [row_of(one, choice=trial.params, candidate=attributes["candidate"]) for one in rows]


def row_of(
    content: Mapping[str, Any], *, choice: Mapping[str, str], candidate: Mapping[str, Any]
) -> TrialRow:
    """A row from what the database has of it.

    Raises:
        ArgumentError: it is not what was written, by its checksum.
    """
    if content.get("sha256") != _checksum(content, choice, candidate):
        raise ArgumentError(f"row {content.get('number')} is not as it was written")
    step, step_size = content["step"]
    winner = content["eliminated_by"]
    return TrialRow(
        number=content["number"],
        candidate=Candidate.from_json(candidate),
        choice=dict(choice),
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


def _repeats(study: Any) -> list[dict[str, Any]]:
    return list(study.user_attrs.get(REPEATS, []))


def _checksum(content: Mapping[str, Any], choice: Mapping[str, str], candidate: Mapping[str, Any]) -> str:
    own = {key: value for key, value in content.items() if key not in ("sha256", "candidate", "choice")}
    text = json.dumps([own, dict(choice), candidate], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _content(row: TrialRow) -> dict[str, Any]:
    content = _plain(row)
    # as the database gives it back
    sums = json.loads(json.dumps([content, dict(row.choice), row.candidate.to_json()]))
    return {**content, "sha256": _checksum(*sums)}


def _plain(row: TrialRow) -> dict[str, Any]:
    return {
        "number": row.number,
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
