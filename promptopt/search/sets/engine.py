"""What to measure next for a set of prompts, and what the set is: functions of the images made so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from promptopt.search.candidates import Candidates, Choice
from promptopt.search.model.noise import IntArray
from promptopt.search.model.slot_model import SlotModel
from promptopt.search.optuna_samplers import ask, make_sampler
from promptopt.search.sets.certificate import Certificate, certify
from promptopt.search.sets.embeddings import FloatArray, Form, MeanEmbeddings
from promptopt.search.sets.weights import LEAST_SHARE, Problem
from promptopt.space import Candidate

OWN = ("auto", "slots", "enumerate")
"""Names of samplers that are the model over slots."""
STARTUP = 8
"""Prompts drawn by the template's weights before a model is fitted."""
EXTENDED = 0.3
"""Share of the images that go to more seeds for prompts of the set."""
CERTIFIED_FROM = 24
"""Prompts before the first certificate: with fewer, the model's variances are guesses."""
_CERTIFIED_EVERY = 4  # steps
_DRAWS = 128
_LOOKED_AT = 512
_LISTED = 200_000  # prompts a certificate looks at in a space too large to list


@dataclass(frozen=True)
class Look:
    """Measure this prompt on the first `images` seeds of the panel.

    Attributes:
        key: tells the prompt from every other.
        choice: its slots, or None for a prompt that the template does not hold, such as the baseline.
    """

    key: Candidate
    choice: Choice | None
    images: int


@dataclass(frozen=True, kw_only=True)
class SetBudget:
    """How much is spent on one class.

    Attributes:
        images: most images in all.
        first: images of a new prompt.
        most: most images of one prompt.
        proposals: prompts proposed at a time, measured together.
        tolerance: stop when the certificate is below this share of what was gained; None for never.
    """

    images: int = 600
    first: int = 4
    most: int = 32
    proposals: int = 4
    tolerance: float | None = 0.05


LinearTerms = Callable[[Mapping[Candidate, float]], Mapping[Candidate, FloatArray]]
"""From the weights of the set to t of every image measured: one array a prompt, less being better."""


@dataclass(eq=False)
class SetState:
    """What is known of one class: the looks taken, the images' features, and all that follows from them.

    Args:
        candidates: the prompts of the template.
        embeddings: of the images, over the real ones.
        terms: linear terms besides the closeness; None for none.
        floored: per-image values whose mean over the set may not fall below `floor`, asked for by prompt.
        excluded: prompts that may not be in the set, with the reason.
        closed: prompts that have left the set and get no further images.
        checked: prompts (with their number of images) that were looked at for copies of real images.
    """

    candidates: Candidates
    embeddings: MeanEmbeddings[Candidate]
    terms: LinearTerms | None = None
    floored: Callable[[Candidate], FloatArray] | None = None
    floor: float = -np.inf
    looks: dict[Candidate, Look] = field(default_factory=dict)
    weights: dict[Candidate, float] = field(default_factory=dict)
    form: Form | None = None
    problem: Problem | None = None
    values: list[FloatArray] = field(default_factory=list)
    excluded: dict[Candidate, str] = field(default_factory=dict)
    closed: set[Candidate] = field(default_factory=set)
    checked: set[tuple[int, Candidate]] = field(default_factory=set)

    @property
    def images(self) -> int:
        """Images made."""
        return sum(look.images for look in self.looks.values())

    @property
    def keys(self) -> list[Candidate]:
        """The prompts measured, in order."""
        return self.embeddings.keys

    def take(self, measured: Sequence[tuple[Look, ArrayLike]]) -> None:
        """Enter the features of looks, and solve the set anew; no image is made."""
        for look, features in measured:
            self.embeddings.put(look.key, features)
            self.looks[look.key] = look
        self.refresh()

    def refresh(self) -> None:
        """The set under what the other classes' sets are now."""
        form = self.embeddings.form()
        keys = self.keys
        extra = None if self.terms is None else self.terms(self.weights)
        linear = None if extra is None else np.array([extra[key].mean() for key in keys])
        floored = None if self.floored is None else np.array([self.floored(key).mean() for key in keys])
        self.form = form
        self.problem = Problem.of(form, linear, floored=floored, floor=self.floor)
        allowed = [i for i, key in enumerate(keys) if key not in self.excluded]
        w = self.problem.without_crumbs(allowed)
        self.weights = {key: float(x) for key, x in zip(keys, w, strict=True) if x > 0}
        witness = self.embeddings.witness(w)
        self.values = [
            -(2 * g + (0.0 if extra is None else extra[key])) for key, g in zip(keys, witness, strict=True)
        ]

    def holds(self, candidate: Candidate) -> bool:
        """Whether it was measured, up to case, punctuation and spaces."""
        return candidate.normalized_key in {known.normalized_key for known in self.looks}

    def vector(self) -> FloatArray:
        """The weights in the order of `keys`."""
        return np.array([self.weights.get(key, 0.0) for key in self.keys])

    def coded(self) -> tuple[list[int], IntArray]:
        """Places of the prompts that the template holds, and their codes."""
        places = [i for i, key in enumerate(self.keys) if self.looks[key].choice is not None]
        choices = [c for i in places if (c := self.looks[self.keys[i]].choice) is not None]
        return places, self.candidates.codes(choices)

    def known(self) -> dict[str, Choice]:
        """Normalized key -> choice of the template's prompts that were measured."""
        return {k.normalized_key: look.choice for k, look in self.looks.items() if look.choice is not None}


@dataclass(frozen=True, kw_only=True)
class SetSearch:
    """The decisions of one class's search.

    Args:
        baseline: key of the plain prompt, measured first and free to be in the set.
        seed: of every draw.
        sampler: "auto", "slots" and "enumerate" are the model over slots, "random" draws by the template's
            weights; else one of Optuna's (see `promptopt.search.optuna_samplers`).
    """

    baseline: Look
    budget: SetBudget
    seed: int
    sampler: str = "auto"
    first: tuple[Choice, ...] = ()

    def next_step(self, state: SetState, step: int) -> tuple[list[Look], str]:
        """What to measure now; nothing, with the reason, when the search is over.

        Args:
            step: number of steps taken for this class; the draws follow from it and the seed.
        """
        budget, left = self.budget, self.budget.images - state.images
        rng = np.random.default_rng([self.seed, step])
        if not state.looks:
            return self._start(state, rng), ""
        more = self._extensions(state, left)
        if more:
            return more, ""
        if left < budget.first:
            return [], f"{state.images} images were made of {len(state.looks)} prompts"
        if budget.tolerance is not None and step % _CERTIFIED_EVERY == 0:
            certificate = self.certificate(state, rng)
            share = None if certificate is None else certificate.share
            if certificate is not None and share is not None and share <= budget.tolerance:
                return [], (
                    f"by the certificate, no prompt could add more than {100 * budget.tolerance:g} % of what "
                    f"was gained, after {len(state.looks)} prompts"
                )
        count = min(budget.proposals, left // budget.first)
        choices = self._propose(state, count, rng)
        if not choices:
            return [], f"the template holds no further prompt after {len(state.looks)}"
        return [self._new(state, choice, budget.first) for choice in choices], ""

    def certificate(self, state: SetState, rng: np.random.Generator | None = None) -> Certificate | None:
        """What no prompt of the template could add any more; None with fewer than 24 prompts."""
        places, codes = state.coded()
        others, complete = _unmeasured(state, codes, self.seed)
        if len(places) < min(CERTIFIED_FROM, len(places) + len(others)) or len(places) < 3:
            return None
        rng = np.random.default_rng([self.seed, 0xCE47]) if rng is None else rng
        return certify(
            SlotModel(codes, [state.values[i] for i in places]),
            state.vector()[places],
            others,
            complete=complete,
            rng=rng,
            gained=self.gained(state),
            outside=sum(
                state.vector()[i] * float(state.values[i].mean())
                for i in range(len(state.keys))
                if i not in places
            ),
        )

    def gained(self, state: SetState) -> float:
        """By how much the set's objective is below the baseline's, on the images it was fitted to."""
        assert state.form is not None
        assert state.problem is not None
        alone = np.zeros(len(state.keys))
        alone[state.keys.index(self.baseline.key)] = 1.0
        w = state.vector()
        linear = state.problem.linear
        return float(state.form.mmd(alone) + alone @ linear - state.form.mmd(w) - w @ linear)

    def _start(self, state: SetState, rng: np.random.Generator) -> list[Look]:
        space, first = state.candidates.space, self.budget.first
        most = max(1, self.budget.images // first - 1)
        chosen: dict[str, Choice] = {}
        for choice in (*self.first, space.likeliest()):
            chosen.setdefault(state.candidates.key(choice), choice)
        while len(chosen) < min(STARTUP, most, space.size):
            fresh = state.candidates.fresh(chosen, rng)
            if fresh is None:
                break
            drawn = space.sample(rng)
            chosen.setdefault(state.candidates.key(drawn), drawn)
        plain = self.baseline.key.normalized_key
        looks = [self._new(state, choice, first) for choice in list(chosen.values())[:most]]
        return [self.baseline, *(look for look in looks if look.key.normalized_key != plain)]

    def _extensions(self, state: SetState, left: int) -> list[Look]:
        """More seeds for prompts of the set: those whose sampling error adds most to the mixture's."""
        assert state.form is not None
        first = self.budget.first
        spent = sum(look.images - first for look in state.looks.values())
        allowance = min(int(EXTENDED * state.images) - spent, left)
        w, own = state.vector(), np.diag(state.form.error)
        order = sorted(range(len(w)), key=lambda i: (-(w[i] ** 2) * own[i], i))
        found: list[Look] = []
        for i in order:
            look = state.looks[state.keys[i]]
            more = min(2 * look.images, self.budget.most)
            if look.key in state.closed:
                continue
            if w[i] >= LEAST_SHARE and more > look.images and more - look.images <= allowance:
                found.append(Look(look.key, look.choice, more))
                allowance -= more - look.images
            if len(found) == self.budget.proposals:
                break
        return found

    def _propose(self, state: SetState, count: int, rng: np.random.Generator) -> list[Choice]:
        """Unmeasured prompts of greatest expected improvement on the set, each given those chosen before."""
        places, codes = state.coded()
        known = state.known()
        space = state.candidates.space
        if len(places) < 3:
            besides: dict[str, Choice] = {
                key.normalized_key: {} for key in state.looks
            }  # such as the baseline
            return _drawn(state.candidates, {**besides, **known}, count, rng)
        if self.sampler not in OWN:
            return self._asked(state, count, rng)
        model = SlotModel(codes, [state.values[i] for i in places])
        w = state.vector()[places]
        outside = 1.0 - float(w.sum())
        means = np.array([state.values[i].mean() for i in places])
        order = np.argsort(-model.means(codes), kind="stable")
        best = [c for i in order if (c := state.looks[state.keys[places[int(i)]]].choice) is not None]
        others = state.candidates.unmeasured(known, best, rng)
        if not len(others):
            return []
        others = others[model.most_promising(others, _LOOKED_AT)]
        draws = model.draws(others, _DRAWS, rng)
        measured = len(places)
        level = draws[:, :measured] @ w
        if outside > 1e-9:  # weight of prompts that the template does not hold: at the mixture's level
            level = level / max(1 - outside, 1e-9) if w.sum() > 0 else np.full(_DRAWS, means.max())
        lead, chosen = level.copy(), list[Choice]()
        taken = {candidate.normalized_key for candidate in state.looks}
        picked: list[int] = []
        while len(chosen) < count and len(picked) < len(others):
            gain = np.maximum(draws[:, measured:] - lead[:, None], 0.0).mean(axis=0)
            if not gain.max() > 0:
                gain = draws[:, measured:].mean(axis=0) - 1e9
            gain[picked] = -np.inf
            place = int(gain.argmax())
            picked.append(place)
            choice = state.candidates.choice(others[place])
            if (key := space.candidate(choice).normalized_key) not in taken:
                taken.add(key)
                chosen.append(choice)
                lead = np.maximum(lead, draws[:, measured + place])
        return chosen

    def _asked(self, state: SetState, count: int, rng: np.random.Generator) -> list[Choice]:
        """Unmeasured prompts that another sampler proposes, told of what each measured one would add now."""
        key = state.candidates.key
        taken: dict[str, Choice] = {candidate.normalized_key: {} for candidate in state.looks}
        space, chosen = state.candidates.space, dict[str, Choice]()
        measured = [
            (choice, [float(values.mean())])
            for candidate, values in zip(state.keys, state.values, strict=True)
            if (choice := state.looks[candidate].choice) is not None
        ]
        seed = int(rng.integers(2**32))
        if self.sampler == "random":
            asked: list[Choice] = [space.sample(rng) for _ in range(4 * count)]
        else:
            asked = ask(make_sampler(self.sampler, seed), space, measured, count=count)
        for choice in asked:
            if key(choice) not in taken and len(chosen) < count:
                chosen.setdefault(key(choice), choice)
        # where it repeats what is known, others are drawn: every step measures something new
        return [*chosen.values(), *_drawn(state.candidates, taken | chosen, count - len(chosen), rng)]

    @staticmethod
    def _new(state: SetState, choice: Choice, images: int) -> Look:
        return Look(state.candidates.space.candidate(choice), choice, images)


def _drawn(
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


def _unmeasured(state: SetState, measured: IntArray, seed: int) -> tuple[IntArray, bool]:
    """Codes of the prompts that were not measured: all of them, or a sample of a space too large to list."""
    slots = state.candidates.space.slots
    sizes = [len(slot.options) for slot in slots]
    if state.candidates.space.size <= _LISTED:
        grids = np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij")
        codes = np.stack([grid.ravel() for grid in grids], axis=1)
        complete = True
    else:
        rng = np.random.default_rng([seed, 0x5A3])
        half = _LISTED // 2
        weighted = [rng.choice(len(slot.options), size=half, p=slot.weights) for slot in slots]
        evenly = rng.integers(0, sizes, size=(half, len(sizes)))
        codes = np.unique(np.concatenate([np.stack(weighted, axis=1), evenly]), axis=0)
        complete = False
    if not len(measured):
        return codes, complete
    places = np.ravel_multi_index(tuple(codes.T), sizes)
    return codes[~np.isin(places, np.ravel_multi_index(tuple(measured.T), sizes))], complete
