"""A study of sets, opened: its searches at hand, for one call or for looks from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore
from evaluation.metrics.mmd import mmd
from generators.stores.address import store_folder
from promptopt.base.errors import ArgumentError
from promptopt.base.files import write_text
from promptopt.config.study_file import StudyConfig
from promptopt.run import folder as runfolder
from promptopt.search.sets.embeddings import MeanEmbeddings
from promptopt.space import Candidate
from promptopt.study.guards import warnings
from promptopt.study.measuring import Measuring
from promptopt.study.observer import Observer
from promptopt.study.opening import makers_of
from promptopt.study.proposals import Ask, Gap, Propose, ScoredPrompt, candidate_of
from promptopt.study.results import resolved_study
from promptopt.study.sets.opening import SetSetup, prepare_sets
from promptopt.study.sets.search import ClassSearch, SetSearches, StepDone
from promptopt.study.step_width import with_proposals

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from generators.making.makers import Makers


@dataclass(frozen=True, eq=False)
class OpenStudy:
    """Everything that a run works with; the run folder is locked as long as it is open."""

    folder: Path
    store: Path
    setup: SetSetup
    measuring: Mapping[str, Measuring]
    searches: SetSearches

    def ask(self) -> list[Ask]:
        """What the search would measure next, for each class that is not over; see `Study.ask`."""
        found = []
        for label, one in self.searches.classes.items():
            looks, _ = self.searches.planned(one)
            found += [Ask(label=label, candidate=look.key, images=look.images) for look in looks]
        return found

    def tell(self, prompts: Sequence[Ask | Candidate | str], *, label: str | None = None) -> dict[str, Gap]:
        """Measure and enter; see `Study.tell`."""
        asked: dict[str, dict[Candidate, int | None]] = {}
        for prompt in prompts:
            own = prompt.label if isinstance(prompt, Ask) else self._label(label)
            candidate = prompt.candidate if isinstance(prompt, Ask) else candidate_of(prompt)
            images = prompt.images if isinstance(prompt, Ask) else None
            asked.setdefault(own, {})[candidate] = images
        for own, wanted in asked.items():
            self.searches.enter(self.searches.classes[own], wanted)
        return {own: self.searches.gap(self.searches.classes[own]) for own in asked}

    def score(
        self, prompts: Sequence[Candidate | str], *, label: str | None, images: int | None
    ) -> list[ScoredPrompt]:
        """Measure without entering; see `Study.score`."""
        one = self.searches.classes[self._label(label)]
        if one.state is None:
            raise ArgumentError("nothing was measured yet, so there is no set", remedy="Run the study first.")
        candidates = [candidate_of(prompt) for prompt in prompts]
        self.searches.check_fits(one, candidates)
        count = one.budget.first if images is None else images
        if not 2 <= count <= len(one.setup.panel.search):
            raise ArgumentError(
                f"a prompt is measured on 2 to {len(one.setup.panel.search)} seeds", key="images", value=count
            )
        seeds = one.setup.panel.search[:count]
        fetched = one.measuring.fetch([(candidate, seeds) for candidate in candidates])
        return [
            _scored(one, candidate, one.measuring.features.features(one.setup.encoder, own))
            for candidate, own in zip(candidates, fetched, strict=True)
        ]

    def _label(self, label: str | None) -> str:
        labels = self.setup.labels
        if label is None and len(labels) == 1:
            return labels[0]
        if label not in labels:
            raise ArgumentError(f"is none of the classes {', '.join(labels)}", key="label", value=label)
        return label


def _scored(one: ClassSearch, candidate: Candidate, rows: np.ndarray) -> ScoredPrompt:
    state = one.known
    assert one.book is not None
    embeddings = MeanEmbeddings[str](one.real, bandwidth=one.bandwidth)
    for place, key in enumerate(state.keys):
        embeddings.put(f"measured {place}", one.features[key])
    embeddings.put("new", rows)
    values = -2 * embeddings.witness([*state.vector(), 0.0])[-1]
    if state.terms is not None:
        known = one.features.get(candidate)
        one.features[candidate] = rows
        try:
            values = values - state.terms(state.weights)[candidate]
        finally:
            if known is None:
                del one.features[candidate]
            else:
                one.features[candidate] = known
    return ScoredPrompt(
        candidate=candidate,
        images=len(values),
        score=Estimate.of_mean(values - one.level()),
        estimates={
            "closeness": mmd(rows, one.real, bandwidth=one.bandwidth),
            "margin": Estimate.of_mean(one.book.margin(rows)),
        },
    )


@contextlib.contextmanager
def opened_study(
    config: StudyConfig,
    *,
    runs: Path,
    store: Path,
    observer: Observer,
    device: str = "auto",
    on: str = "here",
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    propose: Propose | None = None,
    on_step: Callable[[StepDone], None] | None = None,
    makers: Makers | None = None,
) -> Iterator[OpenStudy]:
    """Lock the run folder, check the study, open its networks; the searches have taken no step.

    Raises:
        StudyError: as `promptopt.study.sets.opening.prepare_sets`, or another process has the folder.
    """
    with runfolder.locked_run(Path(runs), config.name) as folder, contextlib.ExitStack() as open_things:
        config = with_proposals(config, folder=folder, on=on)
        store = runfolder.writable_folder(store_folder(store), "the store")
        observer.on_phase("checking the study, its data and its models")
        makers = makers or open_things.enter_context(
            makers_of(config, on, device=device, store=store, features=encoder is None)
        )
        setup = prepare_sets(
            config,
            store=store,
            device=device,
            generator=generator,
            encoder=encoder,
            judge=judge,
            makers=makers,
        )
        runfolder.check_pictures(folder, setup.first.pictures)
        for notice in setup.encoder_checks.notices(config):
            observer.on_warning(notice)
        runfolder.check_settings(folder, setup.identity)
        write_text(folder / runfolder.STUDY, _resolved(setup))
        for text in warnings(setup.classes, FeatureStore(store / "features")):
            observer.on_warning(text)
        measuring: dict[str, Measuring] = {}
        for label, own in setup.classes.items():
            measuring[label] = Measuring(own, store=store, on_image=partial(observer.on_class_image, label))
        searches = SetSearches(
            setup,
            measuring=measuring,
            path=folder / runfolder.DATABASE,
            on_step=observer.on_step if on_step is None else on_step,
            on_end=observer.on_searched,
            propose=propose,
        )
        yield OpenStudy(folder, store, setup, measuring, searches)


def _resolved(setup: SetSetup) -> str:
    """The study file with every path absolute and categories of your own written out."""
    content = yaml.safe_load(resolved_study(setup.first))
    if setup.config.classes:
        resolved = {label: yaml.safe_load(resolved_study(own)) for label, own in setup.classes.items()}
        content |= {
            "category": None,
            "positives": None,
            "classes": {label: {"category": own["category"]} for label, own in resolved.items()},
        }
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
