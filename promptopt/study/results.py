"""What a finished run writes: the content of prompts.json and of the resolved study file."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import yaml

import promptopt
from evaluation.estimate import Estimate
from generators.family import MAIN, GeneratorFamily, member_name, member_uris
from promptopt.portfolio.weigh import Weighing
from promptopt.run.prompts import (
    BaselineEntry,
    EstimateEntry,
    IndependentCheckEntry,
    Network,
    PromptEntry,
    PromptList,
    Seeds,
    rounded,
)
from promptopt.scoring.confirm import Confirmed, mean_optimism
from promptopt.scoring.objective import Measurement
from promptopt.space import unique_labels
from promptopt.study.setup import Setup
from studies.category import SHIPPED


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a study has found, before it is written.

    Attributes:
        searched_baseline, fresh_baseline: the plain prompt measured on the search seeds and on fresh ones.
        weighing: each prompt's share.
        scored: distinct prompts that the search has scored.
        images: that the search asked for, without the baseline's.
        stopped: why the search ended.
    """

    confirmed: tuple[Confirmed, ...]
    searched_baseline: Measurement
    fresh_baseline: Measurement
    weighing: Weighing
    scored: int
    images: int
    stopped: str


def prompt_list(setup: Setup, finished: Finished) -> PromptList:
    """Everything that prompts.json says."""
    confirmed, fresh = finished.confirmed, finished.fresh_baseline
    own = next(c.score.estimate for c in confirmed if c.candidate == fresh.candidate)
    labels = unique_labels(c.candidate for c in confirmed)
    config = setup.config
    sampled = {key: value for key, value in setup.identity["generator"].items() if key != "fingerprint"}

    def network(uri: str, fingerprint: str) -> Network:
        return Network(uri=config.as_written(uri), fingerprint=fingerprint)

    return PromptList(
        study=config.name,
        category=setup.category.name,
        baseline=BaselineEntry(
            prompt=setup.category.baseline,
            search=_entries(None, finished.searched_baseline.estimates),
            confirmation=_entries(own, fresh.estimates),
        ),
        prompts=[_entry(c, finished.weighing.weights.get(c.candidate, 0.0)) for c in confirmed],
        tied=[labels[c.candidate] for c in confirmed if c.tied],
        optimism=_written(mean_optimism(confirmed)),
        weights_note=finished.weighing.note,
        portfolio=finished.weighing.entry,
        prompts_in_space=setup.space.size,
        prompts_scored=finished.scored,
        images_in_search=finished.images,
        stopped=finished.stopped,
        generator=Network(
            uri=config.as_written(config.generator.uri),
            fingerprint=setup.identity["generator"]["fingerprint"],
        ),
        generators=member_networks(setup),
        encoder=network(config.encoder, setup.encoder.fingerprint),
        second_encoder=None
        if setup.second is None
        else Network(
            uri=config.as_written(config.confirm.second_encoder or ""), fingerprint=setup.second.fingerprint
        ),
        encoder_checks=setup.encoder_checks.entries(config),
        judge=None
        if setup.judge is None
        else Network(
            uri=config.as_written(config.judge or setup.judge.uri), fingerprint=setup.judge.fingerprint
        ),
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
            "mode": config.mode,
            **{
                key: config.as_written(getattr(config, key).model_dump(mode="json"))
                for key in ("search", "constraints", "confirm", "portfolio")
            },
            "score": config.single_score.model_dump(mode="json"),
            **({"metrics": metrics} if (metrics := setup.identity["metrics"]) else {}),
        },
        versions=software_versions(),
    )


def member_networks(setup: Setup) -> dict[str, Network]:
    """The generators that the study varied, by member name, with their addresses as the study has them."""
    if not isinstance(setup.generator, GeneratorFamily):
        return {}
    own = setup.config.generator
    uris = member_uris(
        setup.config.as_written({MAIN: own.uri, **own.named}), setup.category.generation_parameters
    )
    prints = setup.generator.fingerprints
    return {
        member_name(*member): Network(uri=uri, fingerprint=prints[member_name(*member)])
        for member, uri in uris.items()
    }


def _entry(c: Confirmed, weight: float) -> PromptEntry:
    return PromptEntry(
        rank=c.rank,
        prompt=c.candidate.prompt,
        negative_prompt=c.candidate.negative_prompt,
        generation_parameters=dict(c.candidate.generation_parameters) or None,
        slots=dict(c.choice) if c.choice is not None else None,
        weight=weight,
        tied_with_first=c.tied,
        behind_first=_written(c.behind_first),
        better_than_baseline=c.better,
        p_value=rounded(c.p_value),
        contradicted_by=c.contradicted_by,
        on_front=c.front,
        shrunken=_written(c.shrunken),
        optimism=_written(c.optimism),
        search=_entries(c.search.score, c.search.estimates) if c.search is not None else {},
        confirmation=_entries(c.score.estimate, c.measurement.estimates),
        independent_checks={
            name: IndependentCheckEntry(
                gain=EstimateEntry.of(said.gain),
                p_value=float(f"{said.p_value:.6g}"),
                gap=_written(said.gap),
                estimates=_entries(None, said.estimates),
            )
            for name, said in c.independent_checks.items()
        },
    )


def _written(estimate: Estimate | None) -> EstimateEntry | None:
    return None if estimate is None else EstimateEntry.of(estimate)


def _entries(score: Estimate | None, estimates: Mapping[str, Estimate]) -> dict[str, EstimateEntry]:
    named = estimates if score is None else {"score": score, **estimates}
    return {name: EstimateEntry.of(estimate) for name, estimate in named.items()}


def software_versions() -> dict[str, str]:
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
    """The study file with absolute paths and a user's category written out: it runs from anywhere."""
    config = setup.config
    content: dict[str, Any] = config.model_dump(mode="json")
    if config.category not in SHIPPED or config.prompts or config.baseline:
        content |= {"category": setup.category.model_dump(mode="json"), "prompts": None, "baseline": None}
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
