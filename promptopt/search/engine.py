"""The search itself, without the images: what to measure next, and what to make of it.

It decides in steps. A step is a list of prompts with numbers of images: new prompts, or more images for
promising ones. Each step is a function of the study and the rows of the steps before it, so it does not
matter how many workers measure its prompts, nor whether the process was killed in between.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from evaluation.estimate import Estimate
from promptopt.config.study_file import SearchSettings
from promptopt.run.trials import GAIN, TrialRow, complete, latest
from promptopt.search.candidates import Choice
from promptopt.search.racing import beaten, extensions, stages
from promptopt.search.samplers import STARTUP, Models, Sampling, propose
from promptopt.space import Candidate

EXTENDED = 0.25
"""Images for second and later looks, as a share of those for first ones. Chosen on planted worlds
(scripts/bench/regret.py): with a confirmation to come, breadth is worth more than certainty."""


@dataclass(frozen=True)
class Pull:
    """Measure this prompt on the first `images` seeds of the panel."""

    candidate: Candidate
    choice: Choice
    images: int
    continues: TrialRow | None = None


@dataclass(frozen=True)
class Scored:
    """One prompt's images, measured.

    Attributes:
        per_image: contributions by name, among them "score" and "gain:..." of each term (see `TrialRow`).
        violations: constraints that the images break.
    """

    score: Estimate
    per_image: Mapping[str, tuple[float, ...]]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    violations: tuple[str, ...] = ()


class Scorer(Protocol):
    """Measures prompts; the same pull must give the same result."""

    def __call__(self, wanted: Sequence[Pull]) -> Sequence[Scored]:
        """One result a pull, in order."""
        ...


class Log(Protocol):
    """Where rows are kept."""

    rows: list[TrialRow]

    def begin(self, wanted: Sequence[tuple[Candidate, Choice]], /) -> None:
        """These prompts are measured next."""
        ...

    def add(self, row: TrialRow, /, *, final: bool = False) -> None:
        """Keep a row, whole or not at all; `final` where no more images of its prompt can follow."""
        ...

    def finish(self) -> None:
        """The search is over."""
        ...


@dataclass
class MemoryLog:
    """Rows in memory."""

    rows: list[TrialRow] = field(default_factory=list)

    def begin(self, wanted: Sequence[tuple[Candidate, Choice]], /) -> None:
        """Nothing to note."""

    def add(self, row: TrialRow, /, *, final: bool = False) -> None:
        """Keep it."""
        self.rows.append(row)

    def finish(self) -> None:
        """Nothing to note."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search with its settings.

    Args:
        baseline: the plain prompt, which every score is relative to.
    """

    sampling: Sampling
    settings: SearchSettings
    baseline: Candidate
    _fitted: list[Models] = field(default_factory=list, init=False, repr=False)  # the last, asked for twice

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of images after which a prompt is judged."""
        return stages(self.settings.images, racing=self.settings.racing)

    @property
    def target(self) -> int:
        """Distinct prompts to score."""
        listed = self.sampling.candidates.listed
        return self.settings.trials if listed is None else min(self.settings.trials, len(listed))

    def run(
        self,
        log: Log,
        scorer: Scorer,
        *,
        on_row: Callable[[TrialRow], None] | None = None,
    ) -> str:
        """Go on from the rows of `log` until a budget is spent or the evidence suffices; says which."""
        while True:
            done = complete(log.rows)
            pulls, reason = self.next_step(done)
            if not pulls:
                log.finish()
                return reason
            began = time.perf_counter()
            rows = self._rows(done, pulls, lambda fresh: self._measured(log, scorer, fresh), began)
            left = rows[len(log.rows) - len(done) :]  # what a killed process had not written yet
            for row in left:
                log.add(row, final=self._is_final(row))
                if on_row is not None:
                    on_row(row)

    @staticmethod
    def _measured(log: Log, scorer: Scorer, fresh: Sequence[Pull]) -> Sequence[Scored]:
        log.begin([(pull.candidate, pull.choice) for pull in fresh])
        return scorer(fresh)

    def _is_final(self, row: TrialRow) -> bool:
        lost = row.eliminated_by is not None or bool(row.violations)
        return lost or row.images >= self.looks[-1]

    def next_step(self, rows: Sequence[TrialRow]) -> tuple[list[Pull], str]:
        """What to measure after `rows`; nothing, with the reason, when the search is over."""
        settings, arms = self.settings, latest(rows)
        made = sum(arm.images for arm in arms)
        left = (sys.maxsize if settings.max_images is None else settings.max_images) - made
        if settings.minutes is not None and sum(row.seconds for row in rows) >= 60 * settings.minutes:
            return [], f"{settings.minutes:g} minutes are over"
        models = self._models(arms)
        rng = np.random.default_rng([self.sampling.seed, len(rows), 1])
        if settings.racing and models is not None:
            more = self._extensions(models, rng, made, left)
            if more:
                return more, ""
        if left < self.looks[0] or len(arms) >= self.target:
            return [], f"{len(arms)} prompts were scored on {made} images"
        may_stop = settings.stop is not None and self.sampling.name != "enumerate"
        if models is not None and may_stop and len(arms) >= STARTUP:
            known = {row.candidate.normalized_key: row.choice for row in rows}
            doubt = models.doubt(known, settings.margin, rng)
            if doubt < (settings.stop or 0.0):
                return [], (
                    f"after {len(arms)} prompts, another one is better by {settings.margin:g} with a "
                    f"probability of only {doubt:.3f}"
                )
        room = min(settings.proposals, self.target - len(arms), left // self.looks[0])
        choices = propose(self.sampling, rows, room, models)
        if not choices:
            return [], f"the space holds no further prompt after {len(arms)}"
        return [self._new(choice) for choice in choices], ""

    def _new(self, choice: Choice) -> Pull:
        return Pull(self.sampling.candidates.space.candidate(choice), choice, self.looks[0])

    def _models(self, arms: Sequence[TrialRow]) -> Models | None:
        if not len(arms) >= min(STARTUP, self.target) > 1:
            return None
        if not self._fitted or self._fitted[0].arms != tuple(arms):
            self._fitted[:] = [Models(self.sampling, arms)]
        return self._fitted[0]

    def _extensions(self, models: Models, rng: np.random.Generator, made: int, left: int) -> list[Pull]:
        """More images for promising prompts, of `left`; `made` are the search's so far."""
        first = self.looks[0] * len(models.arms)
        allowance = min(int(EXTENDED * first) - (made - first), left)
        if allowance <= 0:
            return []
        chosen = extensions(models.arms, models.leading(rng), self.looks, allowance=allowance)
        return [Pull(one.row.candidate, one.row.choice, one.images, one.row) for one in chosen]

    def _rows(
        self, done: Sequence[TrialRow], pulls: Sequence[Pull], scorer: Scorer, began: float
    ) -> list[TrialRow]:
        known = {row.candidate.normalized_key: row for row in latest(done)}
        fresh: dict[str, Pull] = {}
        for pull in pulls:
            if pull.continues is not None or pull.candidate.normalized_key not in known:
                fresh.setdefault(pull.candidate.normalized_key, pull)
        scored = dict(zip(fresh, scorer(list(fresh.values())), strict=True))
        rivals = self._rivals(done)
        seconds = (time.perf_counter() - began) / len(pulls)
        rows: list[TrialRow] = []
        for pull in pulls:
            key = pull.candidate.normalized_key
            earlier = known.get(key) if pull.continues is None else None
            source: Scored | TrialRow = scored[key] if earlier is None else earlier
            row = TrialRow(
                number=len(done) + len(rows),
                candidate=pull.candidate,
                choice=dict(pull.choice),
                score=source.score,
                estimates=source.estimates,
                per_image=source.per_image,
                step=done[-1].step + 1 if done else 0,
                step_size=len(pulls),
                seconds=seconds,
            )
            if earlier is not None:  # a sampler asked for what is known
                row = replace(row, duplicate_of=earlier.number)
            else:
                row = replace(
                    row,
                    continues=None if pull.continues is None else pull.continues.number,
                    violations=source.violations,
                    eliminated_by=self._loser(pull.candidate, source.per_image, rivals),
                )
                known[key] = row
            rows.append(row)
        return rows

    def _rivals(self, done: Sequence[TrialRow]) -> dict[Candidate, Mapping[str, Sequence[float]]]:
        """The incumbent, from the steps before."""
        models = self._models(latest(done)) if self.settings.racing else None
        if models is None:
            return {}
        first = models.arms[models.order[0]]
        return {first.candidate: self._gains(first.per_image)}

    def _loser(
        self,
        candidate: Candidate,
        per_image: Mapping[str, Sequence[float]],
        rivals: Mapping[Candidate, Mapping[str, Sequence[float]]],
    ) -> Candidate | None:
        own_key = candidate.normalized_key
        if not self.settings.racing or own_key == self.baseline.normalized_key:
            return None
        own = self._gains(per_image)
        nothing = {name: [0.0] * len(values) for name, values in own.items()}  # the baseline's gains
        others = {one: gains for one, gains in rivals.items() if one.normalized_key != own_key}
        return beaten(own, {self.baseline: nothing} | others)

    def _gains(self, per_image: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
        if not self.sampling.terms:
            return {"score": per_image["score"]}
        return {name: per_image[GAIN + name] for name in self.sampling.terms}


def images_made(rows: Sequence[TrialRow]) -> int:
    """Images that the search has asked for, without the baseline's."""
    return sum(row.images for row in latest(rows))


def ranked(rows: Sequence[TrialRow], sampling: Sampling) -> list[tuple[TrialRow, float, float]]:
    """The prompts by what they are worth after all, the best first: row, shrunken score, and SD of its lead.

    Prompts that break a constraint come last, then those that lost; with too few for a model, by their mean.
    """
    arms = latest(rows)
    single = Sampling(candidates=sampling.candidates, name=sampling.name, seed=sampling.seed)
    if len(arms) >= 3:
        models = Models(single, arms)
        values = list(zip(arms, models.means.tolist(), models.lead_sds().tolist(), strict=True))
    else:
        values = [(arm, arm.value, 0.0) for arm in arms]
    return sorted(values, key=lambda one: (bool(one[0].violations), -one[1], one[0].number))
