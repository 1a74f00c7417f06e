"""The score of given prompts, as a search of single prompts would measure them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generators.stores.address import store_folder
from promptopt.base.errors import ArgumentError
from promptopt.base.files import writable_folder
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.scoring.registered import registered_metrics
from promptopt.search.engine import Pull
from promptopt.space import Candidate
from promptopt.space.token_limit import describe, too_long
from promptopt.study.measuring import Measuring, Scoring
from promptopt.study.proposals import ScoredPrompt
from promptopt.study.setup import prepare


def score_prompts(
    config: StudyConfig,
    candidates: Sequence[Candidate],
    *,
    store: Path,
    images: int | None,
    metrics: Sequence[Any] = (),
    **objects: Any,
) -> list[ScoredPrompt]:
    """See `promptopt.Study.score`. Images and features come from the store where they are there.

    Args:
        objects: generator, encoder and judge in place of those that the study names.
    """
    store = writable_folder(store_folder(store), "the store", error=StudyError)
    metrics = (*registered_metrics(config.metrics), *metrics)
    setup = prepare(config, store=store, metrics=metrics, **objects)
    count = config.search.images if images is None else images
    if not 4 <= count <= len(setup.panel.search):
        raise ArgumentError(
            f"a prompt is scored on 4 to {len(setup.panel.search)} seeds", key="images", value=count
        )
    if not all(candidate.prompt.strip() for candidate in candidates):
        raise ArgumentError("a prompt is empty", remedy="Leave it out.")
    if long := too_long([candidate.prompt for candidate in candidates], setup.generator):
        raise ArgumentError(f"prompts exceed the generator's limit:\n{describe(long)}\nShorten them")
    measuring = Measuring(setup, store=store, metrics=metrics)
    (plain,) = measuring.fetch([(setup.baseline, setup.panel.search)])
    objective = measuring.objectives(plain).searching
    scoring = Scoring(measuring, objective, objective.measure(setup.baseline, plain))
    known = setup.candidates or {}
    scored = scoring([Pull(one, known.get(one, {}), count) for one in candidates])
    return [
        ScoredPrompt(candidate=one, images=count, score=of.score, estimates=of.estimates)
        for one, of in zip(candidates, scored, strict=True)
    ]
