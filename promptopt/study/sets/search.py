"""The searches of all classes, in turn: each step a function of the images made before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evaluation.classifier.probe import fit_probe
from evaluation.encoders.base import TextEncoder
from evaluation.metrics import alignment
from generators.store import StoredImage
from promptopt.base.errors import ArgumentError
from promptopt.base.seeds import derived_seed
from promptopt.run.set_log import LoggedLook, SetLog
from promptopt.scoring.objective import study_bandwidth
from promptopt.search.candidates import Candidates
from promptopt.search.sets.embeddings import FloatArray, MeanEmbeddings
from promptopt.search.sets.engine import Look, SetBudget, SetSearch, SetState
from promptopt.space import Candidate
from promptopt.space.token_limit import describe, too_long
from promptopt.study.measuring import Measuring
from promptopt.study.proposals import Gap, Propose, candidate_of
from promptopt.study.sets.opening import SetSetup
from promptopt.study.sets.terms import CurrentSet, LinearPart, RealImages, TermBook
from promptopt.study.setup import Setup


@dataclass(frozen=True)
class StepDone:
    """One step of a class's search, as an observer is told of it.

    Attributes:
        looks: what was measured: candidate and number of images.
        nearer: by how much the set is nearer than the baseline on the images it was fitted to (MMD^2).
        images, budget: made for this class so far, and at most.
        replayed: whether it was read from an earlier run.
    """

    label: str
    step: int
    looks: Sequence[tuple[Candidate, int]]
    weights: Mapping[Candidate, float]
    nearer: float
    images: int
    budget: int
    replayed: bool


@dataclass(eq=False)
class ClassSearch:
    """One class: its images, its real ones, and the state of its set."""

    label: str
    setup: Setup
    measuring: Measuring
    log: SetLog
    engine: SetSearch
    budget: SetBudget
    real: np.ndarray
    groups: list[str]
    bandwidth: float = 0.0
    stopped: str = ""
    steps: int = 0
    features: dict[Candidate, np.ndarray] = field(default_factory=dict)
    images: dict[Candidate, list[StoredImage]] = field(default_factory=dict)
    state: SetState | None = None
    book: TermBook | None = None
    _last: dict[Candidate, int] = field(default_factory=dict)

    @property
    def baseline(self) -> Candidate:
        """The plain prompt."""
        return self.setup.baseline

    @property
    def known(self) -> SetState:
        """The state, once the first step was taken."""
        assert self.state is not None
        return self.state

    def measure(self, looks: Sequence[Look]) -> list[tuple[Look, np.ndarray]]:
        """Images and features of looks, from the store where they exist."""
        panel = self.setup.panel.search
        fetched = self.measuring.fetch([(look.key, panel[: look.images]) for look in looks])
        found = []
        for look, images in zip(looks, fetched, strict=True):
            self.images[look.key] = images
            self.features[look.key] = self.measuring.features.features(self.setup.encoder, images)
            found.append((look, self.features[look.key]))
        return found

    def same_images(self, candidate: Candidate) -> Candidate | None:
        """An earlier prompt whose images are this one's on all seeds that both have, if any."""
        own = [image.sha256 for image in self.images[candidate]]
        for other, images in self.images.items():
            if other == candidate:
                return None
            both = min(len(own), len(images))
            if own[:both] == [image.sha256 for image in images[:both]]:
                return other
        return None

    def images_of(self, candidate: Candidate) -> int:
        """How many were made of a prompt."""
        return len(self.images.get(candidate, ()))

    def level(self) -> float:
        """Mean over the set of -(2 g + t), g the witness and t the linear terms."""
        state = self.known
        means = dict(zip(state.keys, (float(v.mean()) for v in state.values), strict=True))
        return sum(weight * means[c] for c, weight in state.weights.items())

    def leads(self) -> dict[Candidate, float]:
        """What each measured prompt would add to the set: its -(2 g + t) less the set's mean of it."""
        state, level = self.known, self.level()
        return {c: round(float(v.mean()) - level, 6) for c, v in zip(state.keys, state.values, strict=True)}

    def current(self) -> CurrentSet:
        """Images of the set with their weights."""
        weights = {} if self.state is None else self.state.weights
        rows = [self.features[candidate] for candidate in weights]
        shares = [np.full(len(r), w / len(r)) for r, w in zip(rows, weights.values(), strict=True)]
        if not rows:
            return CurrentSet(np.empty((0, self.real.shape[1])), np.empty(0))
        return CurrentSet(np.concatenate(rows), np.concatenate(shares))


class SetSearches:
    """All classes of a study, searched in turn.

    Args:
        path: of the Optuna database.
        on_step: told of every step.
        on_end: told of the end of each class's search: label, images made, reason.
        propose: asked for further prompts before each step (`promptopt.study.proposals`).
    """

    def __init__(
        self,
        setup: SetSetup,
        *,
        measuring: Mapping[str, Measuring],
        path: Path,
        on_step: Callable[[StepDone], None] | None = None,
        on_end: Callable[[str, int, str], None] | None = None,
        propose: Propose | None = None,
    ) -> None:
        self.setup = setup
        self._on_step = on_step
        self._on_end = on_end
        self._propose = propose
        self.classes = {label: self._open(label, measuring[label], path) for label in setup.labels}

    def replay(self) -> None:
        """Take the steps that were logged before."""
        while going := [one for one in self.classes.values() if one.steps < len(one.log.steps)]:
            for one in going:
                self._step(one)

    def run(self) -> None:
        """Go on until every class's search is over."""
        going = list(self.classes.values())
        while going:
            going = [one for one in going if self._step(one)]
        for one in self.classes.values():  # what the other classes' sets have become since
            one.known.refresh()

    def finish(self) -> None:
        """End the trials in the database."""
        for one in self.classes.values():
            one.log.finish(one.leads(), one.known.weights, one.known.excluded)

    def _open(self, label: str, measuring: Measuring, path: Path) -> ClassSearch:
        setup, settings = self.setup.classes[label], self.setup.config.set
        budget = SetBudget(
            images=settings.budget,
            first=settings.images,
            most=max(settings.most_images, settings.images),
            proposals=setup.config.search.proposals,
            tolerance=settings.tolerance,
        )
        seen = [setup.positives.where(pool=pool) for pool in ("reference", "validation")]
        return ClassSearch(
            label=label,
            setup=setup,
            measuring=measuring,
            log=SetLog(path, label=label, space=setup.space),
            engine=SetSearch(
                baseline=Look(setup.baseline, None, 2 * budget.first),
                budget=budget,
                seed=derived_seed(setup.panel.sampler, self.setup.labels.index(label)),
                first=setup.sampling.first,
                sampler=setup.config.search.sampler,
            ),
            budget=budget,
            real=np.concatenate(
                [measuring.features.features(setup.encoder, measuring.as_seen(part.paths())) for part in seen]
            ),
            groups=[record.group for part in seen for record in part],
        )

    def _step(self, one: ClassSearch) -> bool:
        if one.steps < len(one.log.steps):
            looks = [Look(old.candidate, old.choice, old.images) for old in one.log.steps[one.steps]]
            self._take(one, looks, replayed=True)
            return True
        looks, one.stopped = self.planned(one)
        if looks:
            self._take(one, looks)
        elif self._on_end is not None:
            self._on_end(one.label, one.known.images, one.stopped)
        return bool(looks)

    def _take(self, one: ClassSearch, looks: Sequence[Look], *, replayed: bool = False) -> None:
        """Measure looks and solve the set anew."""
        measured = one.measure(looks)
        if one.state is None:
            self._begin(one)
        state = one.known
        state.take(measured)
        self._exclude(one, looks)
        for look in looks:
            one._last[look.key] = one.steps
        left = [c for c in state.looks if c not in state.weights and one._last[c] < one.steps - 1]
        if not replayed:
            leads = one.leads()
            one.log.add([LoggedLook(look.key, look.choice, look.images) for look in looks], leads)
            one.log.close(left, leads, state.excluded)
        state.closed.update(left)
        one.steps += 1
        if self._on_step is not None:
            self._on_step(
                StepDone(
                    label=one.label,
                    step=one.steps,
                    looks=[(look.key, look.images) for look in looks],
                    weights=state.weights,
                    nearer=one.engine.gained(state),
                    images=state.images,
                    budget=one.budget.images,
                    replayed=replayed,
                )
            )

    def planned(self, one: ClassSearch) -> tuple[list[Look], str]:
        """What is measured next: the engine's, and what the proposer adds; or nothing, with the reason."""
        candidates = Candidates(one.setup.space, one.setup.candidates)
        blank = SetState(candidates, MeanEmbeddings(one.real, bandwidth=1.0))
        looks, reason = one.engine.next_step(one.state or blank, one.steps)
        if one.state is not None and self._propose is not None:
            spent = sum(look.images - one.images_of(look.key) for look in looks)
            room = (one.budget.images - one.state.images - spent) // one.budget.first
            if room > 0:
                given = [candidate_of(p) for p in self._propose(one.label, self.gap(one))]
                self.check_fits(one, given)
                looks = [*looks, *self._fresh(one, given, besides=looks)[:room]]
        return looks, "" if looks else reason

    def enter(self, one: ClassSearch, wanted: Mapping[Candidate, int | None]) -> None:
        """Measure these prompts as one step of a class, and the baseline with them if it was not yet.

        Args:
            wanted: candidate -> on how many of the first seeds; None: as many as a new prompt gets.

        Raises:
            ArgumentError: too long for the generator, or beyond the budget of the class.
        """
        self.check_fits(one, list(wanted))
        looks: list[Look] = []
        for candidate, images in wanted.items():
            if images is None:
                looks += self._fresh(one, [candidate], besides=looks)
            elif images > one.images_of(candidate):
                looks.append(Look(candidate, self._choice(one, candidate), images))
        if one.state is None:
            plain = one.engine.baseline
            key = plain.key.normalized_key
            looks = [plain, *(look for look in looks if look.key.normalized_key != key)]
        made = sum(one.images_of(c) for c in one.images)
        more = sum(look.images - one.images_of(look.key) for look in looks)
        if made + more > one.budget.images:
            raise ArgumentError(
                f"{more} images are asked for, and {one.budget.images - made} are left of the budget of "
                f"{one.label}",
                remedy="Ask for fewer, or raise set.budget.",
            )
        if looks:
            self._take(one, looks)

    def gap(self, one: ClassSearch) -> Gap:
        """What a proposer is told."""
        state = one.known
        return Gap(
            label=one.label,
            baseline=one.baseline,
            weights=dict(state.weights),
            leads=one.leads(),
            images=state.images,
            budget=one.budget.images,
            max_tokens=one.setup.generator.max_tokens,
            _certify=lambda: one.engine.certificate(state),
        )

    def check_fits(self, one: ClassSearch, candidates: Sequence[Candidate]) -> None:
        """Raise ArgumentError for an empty prompt, or one that the generator would cut."""
        if not all(candidate.prompt.strip() for candidate in candidates):
            raise ArgumentError("a prompt is empty", remedy="Leave it out.")
        if long := too_long([candidate.prompt for candidate in candidates], one.setup.generator):
            raise ArgumentError(
                f"{len(long)} prompts exceed the generator's limit of {one.setup.generator.max_tokens} "
                f"tokens:\n{describe(long)}\nShorten them"
            )

    def _fresh(
        self, one: ClassSearch, candidates: Sequence[Candidate], *, besides: Sequence[Look]
    ) -> list[Look]:
        """First looks at those that were not measured and are not in `besides`, each once."""
        known = {c.normalized_key for c in (*one.images, *(look.key for look in besides))}
        found = []
        for candidate in candidates:
            if candidate.normalized_key not in known:
                known.add(candidate.normalized_key)
                found.append(Look(candidate, self._choice(one, candidate), one.budget.first))
        return found

    def _choice(self, one: ClassSearch, candidate: Candidate) -> Mapping[str, str] | None:
        """The slots of a prompt that the template holds (where it can be listed), but for the baseline."""
        if candidate == one.baseline:
            return None
        if one.state is not None and candidate in one.state.looks:
            return one.state.looks[candidate].choice
        return (one.setup.candidates or {}).get(candidate)

    def _begin(self, one: ClassSearch) -> None:
        """The state, once the baseline's images say how wide the kernel must be."""
        setup, config = one.setup, self.setup.config
        baseline = one.features[one.baseline]
        one.bandwidth = float(f"{study_bandwidth(one.real, baseline):.6g}")
        one.book = self._book(one)
        floor = config.set.margin_floor
        margins = one.book.margin(one.real)
        one.state = SetState(
            candidates=Candidates(setup.space, setup.candidates),
            embeddings=MeanEmbeddings(one.real, bandwidth=one.bandwidth, groups=one.groups),
            terms=None
            if not one.book.used and not config.set_score.contrast
            else LinearPart(
                one.book,
                features=lambda: one.features,
                baseline=one.baseline,
                closeness_unit=lambda: _spread(one),
            ),
            floored=None if floor is None else lambda candidate: self._margin(one, candidate),
            floor=-np.inf if floor is None else round(float(margins.mean() + floor * margins.std(ddof=1)), 4),
        )

    def _margin(self, one: ClassSearch, candidate: Candidate) -> FloatArray:
        assert one.book is not None
        return np.round(one.book.margin(one.features[candidate]), 4)

    def _book(self, one: ClassSearch) -> TermBook:
        setup, encoder = one.setup, one.setup.encoder
        reference = one.measuring.real("reference", encoder)
        return TermBook(
            label=one.label,
            score=self.setup.config.set_score,
            class_weights=alignment.class_weights(encoder, setup.texts)
            if isinstance(encoder, TextEncoder)
            else None,
            target=setup.category.name,
            probe=fit_probe(reference.features, reference.labels, seed=setup.panel.metrics),
            training=self._real("reference"),
            validation=self._real("validation"),
            reference=one.real,
            sets=lambda: {label: other.current() for label, other in self.classes.items()},
            reals=lambda: {label: other.real for label, other in self.classes.items()},
            bandwidth=one.bandwidth,
        )

    def _real(self, pool: str) -> RealImages:
        """Real images of all classes in a pool; of a study of one class, the others' too."""
        first = next(iter(self.classes.values()))
        if len(self.classes) == 1:
            both = first.measuring.real(pool, first.setup.encoder)
            names = np.where(both.labels, first.label, "other")
            return RealImages(both.features, names)
        rows = [
            one.measuring.features.features(one.setup.encoder, one.setup.positives.where(pool=pool).paths())
            for one in self.classes.values()
        ]
        return RealImages(np.concatenate(rows), np.repeat(list(self.classes), [len(row) for row in rows]))

    def _exclude(self, one: ClassSearch, looks: Sequence[Look]) -> None:
        """Leave out prompts that repeat another's images, and prompts of the set that copy real images."""
        state, most = one.known, self.setup.config.set.copies
        for look in looks:
            twin = one.same_images(look.key)
            if twin is not None:
                state.excluded[look.key] = f"its images are those of {str(twin)!r}"
        while True:
            new = []
            for candidate in state.weights if most is not None else ():
                checked = (len(one.images[candidate]), candidate)
                if candidate == one.baseline or checked in state.checked:
                    continue
                state.checked.add(checked)
                low = one.measuring.copies(one.images[candidate]).low
                if low is not None and most is not None and low > most:
                    new.append(candidate)
                    state.excluded[candidate] = f"at least {100 * low:.0f} % of its images copy real ones"
            if not new and not any(c in state.excluded for c in state.weights):
                return
            state.refresh()


def _spread(one: ClassSearch) -> float:
    """SD over the baseline's images of what each adds to the closeness, by itself: the unit of the terms."""
    own = MeanEmbeddings[str](one.real, bandwidth=one.bandwidth)
    own.put("baseline", one.features[one.baseline])
    return float(np.std(2 * own.witness([1.0])[0], ddof=1))
