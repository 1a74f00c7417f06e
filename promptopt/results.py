"""What a finished run writes: the content of prompts.json and of the resolved study file."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import promptopt
from evaluation.estimate import Estimate
from promptopt.confirm import Confirmed
from promptopt.export.prompts import BaselineEntry, EstimateEntry, Network, PromptEntry, PromptList, Seeds
from promptopt.objective import Measurement
from promptopt.setup import Setup
from promptopt.template import Variation
from promptopt.weights import Weighing
from studies.category import CATEGORIES


def prompt_list(
    setup: Setup,
    *,
    confirmed: Sequence[Confirmed],
    baseline: tuple[Measurement, Measurement],
    weighing: Weighing,
    scored: int,
) -> PromptList:
    """Everything that prompts.json says.

    Args:
        baseline: the baseline prompt measured on the search seeds and on the fresh ones.
        weighing: each prompt's share, from `weigh`.
        scored: number of distinct prompts that the search has scored.
    """
    searched, fresh = baseline
    own = next(c.score.estimate for c in confirmed if c.prompt == fresh.prompt)
    tied = [c.prompt for c in confirmed if c.tied]
    entries = [
        PromptEntry(
            rank=c.rank,
            prompt=(variation := Variation.of(c.prompt)).prompt,
            negative_prompt=variation.negative_prompt,
            settings=dict(variation.settings) or None,
            slots=dict(c.choice) if c.choice is not None else None,
            weight=weighing.weights.get(c.prompt, 0.0),
            tied_with_first=c.tied,
            behind_first=None if c.behind_first is None else EstimateEntry.of(c.behind_first),
            search=_entries(c.search.score, c.search.estimates) if c.search is not None else {},
            confirmation=_entries(c.score.estimate, c.measurement.estimates),
        )
        for c in confirmed
    ]
    config = setup.config
    sampled = {key: value for key, value in setup.identity["generator"].items() if key != "fingerprint"}
    return PromptList(
        study=config.name,
        category=setup.category.name,
        baseline=BaselineEntry(
            prompt=setup.category.baseline,
            search=_entries(None, searched.estimates),
            confirmation=_entries(own, fresh.estimates),
        ),
        prompts=entries,
        tied=tied,
        weights_note=weighing.note,
        portfolio=weighing.entry,
        prompts_in_space=setup.space.size,
        prompts_scored=scored,
        generator=Network(uri=config.generator.uri, fingerprint=setup.generator.fingerprint),
        encoder=Network(uri=config.encoder, fingerprint=setup.encoder.fingerprint),
        judge=None
        if setup.judge is None
        else Network(uri=config.judge or setup.judge.uri, fingerprint=setup.judge.fingerprint),
        data=setup.data.fingerprint,
        seeds=Seeds(
            study=config.seed,
            sampler=setup.panel.sampler,
            search=list(setup.panel.search),
            confirmation=list(setup.panel.confirmation),
        ),
        settings={
            "positives": setup.positive_name,
            "generator": sampled,
            "search": config.search.model_dump(mode="json"),
            "score": config.score.model_dump(mode="json"),
            "confirm": config.confirm.model_dump(mode="json"),
            "portfolio": config.portfolio.model_dump(mode="json"),
        },
        versions=_versions(),
    )


def _entries(score: Estimate | None, estimates: Mapping[str, Estimate]) -> dict[str, EstimateEntry]:
    named = estimates if score is None else {"score": score, **estimates}
    return {name: EstimateEntry.of(estimate) for name, estimate in named.items()}


def _versions() -> dict[str, str]:
    names = (
        "numpy",
        "scipy",
        "scikit-learn",
        "torch",
        "diffusers",
        "transformers",
        "open_clip_torch",
        "optuna",
    )
    found = {"promptopt": promptopt.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def resolved_study(setup: Setup) -> str:
    """The study file with every path absolute and a category of one's own written out: it runs anywhere."""
    config = setup.config
    content: dict[str, Any] = config.model_dump(mode="json")
    if config.category not in CATEGORIES:
        content["category"] = setup.category.model_dump(mode="json")
    content["generator"]["uri"] = config.resolve(config.generator.uri)
    content["encoder"] = config.resolve(config.encoder)
    if config.judge is not None:
        content["judge"] = config.resolve(config.judge)
    model = config.portfolio.sentence_model
    if model is not None and Path(config.resolve(model)).is_dir():  # else a package's name
        content["portfolio"]["sentence_model"] = config.resolve(model)
    if isinstance(config.data, str):
        content["data"] = config.resolve(config.data)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
