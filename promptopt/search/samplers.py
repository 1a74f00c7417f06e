"""Which prompts to try next: a function of the space, the rows so far and the seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptopt.base.seeds import derived_seed
from promptopt.config.study_file import SAMPLER_NAMES
from promptopt.run.trials import TrialRow, latest, values_of
from promptopt.search.candidates import Candidates, Choice, IntArray
from promptopt.search.model.improvement import improvements
from promptopt.search.model.slot_model import FloatArray, SlotModel
from promptopt.search.optuna_samplers import STARTUP, ask, make_sampler

FEW = 16  # prompts that are all tried rather than chosen from
_REPEATS = 3  # known prompts suggested in a row before an untried one is drawn
_LOOKED_AT = 512  # prompts, of the highest bounds, that are drawn jointly
_DRAWS = 128  # joint draws of the posterior behind one decision

SAMPLERS = SAMPLER_NAMES


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What stays the same over a search.

    Attributes:
        name: "slots", "gp", "tpe", "nsga2", "random", "enumerate" or a class path; "auto" is resolved before.
        terms: names of the terms, for a Pareto front; none for one score.
        first: choices to begin with, e.g. the winners of an earlier study.
    """

    candidates: Candidates
    name: str
    seed: int
    terms: tuple[str, ...] = ()
    first: tuple[Choice, ...] = ()


def resolve(name: str, *, prompts: int | None, trials: int) -> str:
    """The sampler to use: `auto` is the model, or every prompt in turn where there are few.

    Optuna's samplers and random draws repeat themselves, so where the budget reaches for all prompts these
    are tried in turn.

    Args:
        prompts: number of different prompts, None when there are too many to list.
    """
    if name == "auto":
        return "enumerate" if prompts is not None and prompts <= min(trials, FEW) else "slots"
    return "enumerate" if prompts is not None and prompts <= trials and name != "slots" else name


def propose(sampling: Sampling, rows: Sequence[TrialRow], count: int, model: Models | None) -> list[Choice]:
    """The next `count` choices, fewer when the space has no more.

    It begins with `first`, then the template's likeliest prompt, then draws by its weights, which are its
    author's opinion of where to begin; from `STARTUP` prompts on, the sampler decides.

    Args:
        rows: all so far; the draw is a function of them and the seed.
        model: the posterior after `rows`, for the sampler "slots"; None while there is too little for one.
    """
    rng = np.random.default_rng([sampling.seed, len(rows)])
    known = {row.candidate.normalized_key: row.choice for row in rows}
    space = sampling.candidates.space
    if sampling.name == "enumerate" or _repeats(rows) >= _REPEATS:
        return _untried(sampling.candidates, known, count, rng)
    if sampling.name == "nsga2":
        return _asked(sampling, rows, count, replay=True)
    if len(known) < STARTUP:
        begin: list[Choice] = [*sampling.first, space.likeliest()]
        key = sampling.candidates.key
        chosen = [choice for choice in begin if key(choice) not in known][:count]
        unknown = known | {key(choice): choice for choice in chosen}
        if sampling.name == "slots":  # a model of its own draws no prompt twice
            return chosen + _drawn(sampling.candidates, unknown, count - len(chosen), rng)
        return chosen + [space.sample(rng) for _ in range(count - len(chosen))]
    if sampling.name == "random":
        return [space.sample(rng) for _ in range(count)]
    if sampling.name == "slots" and model is not None:
        return model.choose(known, count, rng)
    return _asked(sampling, rows, count, replay=False)


class Models:
    """The posterior over prompts: of the score, or of each term for a Pareto front."""

    def __init__(self, sampling: Sampling, arms: Sequence[TrialRow]) -> None:
        self.candidates = sampling.candidates
        self.arms = tuple(arms)
        self._seed = sampling.seed
        self._screened: tuple[frozenset[str], IntArray] | None = None
        codes = self.candidates.codes([arm.choice for arm in arms])
        names = sampling.terms or ("score",)
        self._models = [SlotModel(codes, _scores(arms, name, bool(sampling.terms))) for name in names]
        self.means: FloatArray = np.mean([model.fitted for model in self._models], axis=0)

    @property
    def order(self) -> list[int]:
        """The measured prompts, the most promising first (in Pareto mode by the mean of the terms)."""
        return [int(i) for i in np.argsort(-self.means, kind="stable")]

    def lead_sds(self) -> FloatArray:
        """SD of each measured prompt's value about the mean of all; what is unsure of all alike is out."""
        codes = self.candidates.codes([arm.choice for arm in self.arms])
        joint = np.sum([model.covariance(codes) for model in self._models], axis=0) / len(self._models) ** 2
        means = joint.mean(axis=0)
        return np.asarray(np.sqrt(np.maximum(np.diag(joint) - 2 * means + means.mean(), 0.0)))

    def draws(self, others: Any, rng: np.random.Generator, count: int = _DRAWS) -> FloatArray:
        """Shape (terms or 1, count, measured + others)."""
        return np.stack([model.draws(others, count, rng) for model in self._models])

    def choose(self, known: Mapping[str, Choice], count: int, rng: np.random.Generator) -> list[Choice]:
        """Unmeasured prompts of greatest expected improvement, each given those chosen before it.

        The improvement is over the best of the measured and chosen ones in the same joint draw, so noise in
        what is best is allowed for (Letham et al. 2019). In Pareto mode each choice weighs the terms anew, by
        random weights (Knowles 2006).
        """
        codes = self._promising(known)
        taken = set(known)
        by_term = self.draws(codes, rng)
        measured, picked, chosen = len(self.arms), list[int](), list[Choice]()
        values, lead = by_term[0], by_term[0, :, :measured].max(axis=1)
        while len(chosen) < count and len(picked) < len(codes):
            if len(by_term) > 1:
                weights = rng.dirichlet(np.ones(len(by_term)))
                values = np.tensordot(weights, by_term, axes=1)
                lead = values[:, [*range(measured), *(measured + i for i in picked)]].max(axis=1)
            elif picked:
                lead = np.maximum(lead, values[:, measured + picked[-1]])
            gain = improvements(values[:, measured:], lead)
            gain[picked] = -np.inf
            picked.append(int(gain.argmax()))
            choice = self.candidates.choice(codes[picked[-1]])
            if (key := self.candidates.key(choice)) not in taken:  # other options may say the same
                taken.add(key)
                chosen.append(choice)
        return chosen

    def leading(self, rng: np.random.Generator) -> FloatArray:
        """Probability of each measured prompt to be the best of them, or on their Pareto front, (n,)."""
        by_term = self.draws(np.empty((0, self._slots), dtype=np.int64), rng, count=2 * _DRAWS)
        if len(by_term) == 1:
            return np.bincount(by_term[0].argmax(axis=1), minlength=len(self.arms)) / by_term.shape[1]
        return np.asarray(_undominated(by_term).mean(axis=0), dtype=np.float64)

    def doubt(self, known: Mapping[str, Choice], margin: float, rng: np.random.Generator) -> float:
        """Probability that some prompt, measured or not, beats the most promising by more than `margin`."""
        first = self.order[0]
        codes = self._promising(known)
        values = self.draws(codes, rng, count=2 * _DRAWS).mean(axis=0)
        return float(np.mean(values.max(axis=1) > values[:, first] + margin))

    def _promising(self, known: Mapping[str, Choice]) -> IntArray:
        """The unmeasured prompts that could be best, by their bounds. Asked for twice a step."""
        names = frozenset(known)
        if self._screened is None or self._screened[0] != names:
            self._screened = (names, self._screen(known))
        return self._screened[1]

    def _screen(self, known: Mapping[str, Choice]) -> IntArray:
        rng = np.random.default_rng([self._seed, len(known), 2])
        best = [self.arms[i].choice for i in self.order]
        codes = self.candidates.unmeasured(known, best, rng)
        if len(codes) <= _LOOKED_AT:
            return codes
        if len(self._models) == 1:
            return codes[self._models[0].most_promising(codes, _LOOKED_AT)]
        bounds = np.full(len(codes), -np.inf)
        for model in self._models:
            mean, sd = model.predict(codes)
            bounds = np.maximum(bounds, (mean + 2 * sd - mean.mean()) / max(float(mean.std()), 1e-12))
        return codes[np.argsort(-bounds, kind="stable")[:_LOOKED_AT]]

    @property
    def _slots(self) -> int:
        return len(self.candidates.space.slots)


def _scores(arms: Sequence[TrialRow], name: str, by_term: bool) -> list[FloatArray]:
    """Per-image scores; those of prompts that break a constraint are moved down to the worst sound one."""
    rows = [np.asarray(arm.terms()[name] if by_term else arm.per_image["score"]) for arm in arms]
    if not any(arm.violations for arm in arms):
        return rows
    sound = [row.mean() for arm, row in zip(arms, rows, strict=True) if not arm.violations]
    floor = min(sound, default=0.0)
    return [
        row - max(0.0, row.mean() - floor) if arm.violations else row
        for arm, row in zip(arms, rows, strict=True)
    ]


def _undominated(values: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Shape (terms, draws, prompts) -> (draws, prompts): no other prompt is better in every term."""
    better = np.ones((values.shape[1], values.shape[2], values.shape[2]), dtype=bool)
    for term in values:
        better &= term[:, :, None] < term[:, None, :]
    return np.asarray(~better.any(axis=2))


def _untried(
    candidates: Candidates, known: Mapping[str, Choice], count: int, rng: np.random.Generator
) -> list[Choice]:
    seen, found = dict(known), list[Choice]()
    for _ in range(count):
        choice = candidates.fresh(seen, rng)
        if choice is None:
            break
        seen[candidates.key(choice)] = choice
        found.append(choice)
    return found


def _drawn(
    candidates: Candidates, known: Mapping[str, Choice], count: int, rng: np.random.Generator
) -> list[Choice]:
    """Draws by weight, each prompt once; others where the weights hold no more."""
    seen, found, space = dict(known), list[Choice](), candidates.space
    for _ in range(200 * count):
        if len(found) == count:
            break
        choice = space.sample(rng)
        if (key := candidates.key(choice)) not in seen:
            seen[key] = choice
            found.append(choice)
    return found + _untried(candidates, seen, count - len(found), rng)


def _repeats(rows: Sequence[TrialRow]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda row: row.duplicate_of is not None, reversed(rows)))


def _asked(sampling: Sampling, rows: Sequence[TrialRow], count: int, *, replay: bool) -> list[Choice]:
    """The choices of a sampler of Optuna's, which has all rows."""
    now = {row.candidate.normalized_key: row for row in latest(rows)}
    tried = [row for row in rows if row.continues is None]
    measured = [
        (row.choice, values_of(row if replay else now[row.candidate.normalized_key], sampling.terms))
        for row in tried
    ]
    seed = sampling.seed if replay else derived_seed(sampling.seed, len(rows))
    objectives = max(1, len(sampling.terms))
    sampler = make_sampler(sampling.name, seed)
    return ask(
        sampler, sampling.candidates.space, measured, objectives=objectives, count=count, replay=replay
    )
