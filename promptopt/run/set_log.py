"""The record of a search for a set: an Optuna study a class, a trial a prompt, grown with its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna

from promptopt.base.errors import PromptoptError
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

_RUNNING = optuna.trial.TrialState.RUNNING
_FAIL = optuna.trial.TrialState.FAIL


class SetLogError(PromptoptError, ValueError):
    """The database of a run holds something that this search cannot have written."""


@dataclass(frozen=True)
class LoggedLook:
    """One prompt measured on the first `images` seeds; `choice` is None for one outside the template."""

    candidate: Candidate
    choice: Mapping[str, str] | None
    images: int


class SetLog:
    """The steps of one class's search, in an Optuna database that any Optuna user can open.

    A trial begins when its prompt is proposed and ends when the prompt has left the set for good, or with the
    search: COMPLETE where the prompt was in the set or got more than its first images, PRUNED otherwise. Its
    intermediate values, by number of images, and its value are what the prompt would have added to the set at
    that time. The constraint `broken constraints` is 1 for a prompt that may not be in the set. What a killed
    process left half written is dropped, and its step is taken again.

    Args:
        path: the SQLite file; made if missing.
        label: of the class; the name of the Optuna study.
    """

    def __init__(self, path: Path, *, label: str, space: PromptSpace) -> None:
        self._distributions = distributions(space)
        self._label = label
        self._space = space
        with quiet(), trusted(path):
            self._storage = open_storage(path)
            self.steps: list[list[LoggedLook]] = self._read()

    def add(self, looks: Sequence[LoggedLook], values: Mapping[Candidate, float]) -> None:
        """Write one step. `values` says what each of its prompts would add to the set."""
        step = len(self.steps)
        with quiet():
            if self._ended:  # with an earlier search, which this one goes on from with a larger budget
                reopen(self._storage, self._ended)
                self._read()
            for place, look in enumerate(looks):
                trial = self._open.get(look.candidate)
                if trial is None:
                    trial = begin(self._study, self._distributions, look.candidate, look.choice or {})
                    self._open[look.candidate] = trial
                report(trial, values[look.candidate], look.images)
                seen = trial.user_attrs.get("looks", [])
                trial.set_user_attr("looks", [*seen, [step, place, len(looks), look.images]])
        self.steps.append(list(looks))

    def close(
        self,
        candidates: Sequence[Candidate],
        values: Mapping[Candidate, float],
        excluded: Mapping[Candidate, str] = MappingProxyType({}),
    ) -> None:
        """End the trials of prompts that have left the set for good; `excluded` may not be in it, and why."""
        with quiet():
            for candidate in candidates:
                trial = self._open.pop(candidate, None)
                if trial is not None:
                    once = len(trial.user_attrs["looks"]) == 1
                    trial.set_user_attr("value", values[candidate])
                    self._end(trial, None if once else values[candidate], excluded.get(candidate))

    def finish(
        self,
        values: Mapping[Candidate, float],
        weights: Mapping[Candidate, float],
        excluded: Mapping[Candidate, str] = MappingProxyType({}),
    ) -> None:
        """End every trial that is still open: those of the set, with their weights."""
        with quiet():
            for candidate, trial in self._open.items():
                trial.set_user_attr("weight", weights.get(candidate, 0.0))
                self._end(trial, values[candidate], excluded.get(candidate))
                self._ended.append(trial._trial_id)
            self._open.clear()

    def _end(self, trial: Any, value: float | None, excluded: str | None) -> None:
        if excluded is not None:
            trial.set_user_attr("excluded", excluded)
        broken(trial, excluded is not None)
        end(trial, None if value is None else [value])

    def _read(self) -> list[list[LoggedLook]]:
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=self._label,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: prompts come from the search
        )
        self._open: dict[Candidate, Any] = {}
        self._ended: list[int] = []
        by_step: dict[int, list[tuple[int, LoggedLook]]] = {}
        sizes: dict[int, int] = {}
        trials = [t for t in self._study.get_trials(deepcopy=False) if t.state != _FAIL]
        for frozen in trials:
            attrs = frozen.user_attrs
            if "looks" not in attrs or "candidate" not in attrs:
                if frozen.state == _RUNNING:
                    self._study.tell(frozen.number, state=_FAIL)
                    continue
                raise SetLogError(
                    f"trial {frozen.number} was not written by this search",
                    file=self._study.study_name,
                    remedy="Run the study again under another name.",
                )
            if frozen.state.is_finished() and "weight" in attrs:
                self._ended.append(frozen._trial_id)
            candidate = Candidate.from_json(attrs["candidate"])
            choice = dict(frozen.params) if frozen.params else None
            self._check(frozen, candidate, choice)
            for step, place, size, images in attrs["looks"]:
                sizes[step] = size
                by_step.setdefault(step, []).append((place, LoggedLook(candidate, choice, images)))
        whole = [step for step in sorted(by_step) if len(by_step[step]) == sizes[step]]
        kept = set(range(len(whole))) if whole == list(range(len(whole))) else set()
        if len(kept) < len(by_step) - 1:
            raise SetLogError(
                "steps are missing from the trials",
                file=self._study.study_name,
                remedy="Run the study again under another name.",
            )
        for frozen in trials:
            if frozen.state == _RUNNING and "looks" in frozen.user_attrs:
                self._reopen(frozen, kept)
        ordered = (sorted(by_step[step], key=lambda pair: pair[0]) for step in sorted(kept))
        return [[look for _, look in pairs] for pairs in ordered]

    def _check(self, frozen: Any, candidate: Candidate, choice: Mapping[str, str] | None) -> None:
        """What a trial says twice it says alike: its prompt, and the images that it was measured on."""
        counts = [images for _, _, _, images in frozen.user_attrs["looks"]]
        numbers = [one for look in frozen.user_attrs["looks"] for one in look]
        if (
            frozen.user_attrs["prompt"] != candidate.label
            or (choice is not None and self._space.candidate(choice).prompt != candidate.prompt)
            or not all(type(one) is int and one >= 0 for one in numbers)
            or counts != sorted(counts)
            or not set(counts) <= set(frozen.intermediate_values)
        ):
            raise SetLogError(f"trial {frozen.number} is not as it was written")

    def _reopen(self, frozen: Any, kept: set[int]) -> None:
        """Go on with a trial that is still running; what a killed process had half written is dropped."""
        looks = [look for look in frozen.user_attrs["looks"] if look[0] in kept]
        if not looks:
            self._study.tell(frozen.number, state=_FAIL)
            return
        trial = running(self._study, frozen)
        if looks != frozen.user_attrs["looks"]:
            trial.set_user_attr("looks", looks)
        self._open[Candidate.from_json(frozen.user_attrs["candidate"])] = trial
