"""What a finished study of sets writes: its prompts.json."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from promptopt.run.prompt_sets import (
    CertificateEntry,
    ClassEntry,
    ComparisonEntry,
    DistancesEntry,
    LearnedTemplate,
    PromptSet,
    SetList,
    SizeEntry,
    WeightedPrompt,
)
from promptopt.run.prompts import EstimateEntry, Network, Seeds, rounded
from promptopt.search.sets.learned import Product
from promptopt.space import Candidate
from promptopt.space.weighted import weighted_template
from promptopt.study.results import member_networks, software_versions
from promptopt.study.sets.confirm import Compared, Confirmation, ConfirmedClass
from promptopt.study.sets.methods import prompt_distances
from promptopt.study.sets.opening import SetSetup
from promptopt.study.sets.search import ClassSearch
from promptopt.study.sets.words import sentence


def set_list(setup: SetSetup, searches: Mapping[str, ClassSearch], confirmation: Confirmation) -> SetList:
    """Everything that prompts.json says."""
    config, first = setup.config, setup.first
    return SetList(
        study=config.name,
        sentence=sentence(
            setup.labels, confirmation, real="real" if isinstance(config.data, str) else "phantom"
        ),
        classes=[
            _class(searches[label], confirmation.classes[label], confirmation) for label in setup.labels
        ],
        accuracy={
            name: EstimateEntry.of(row.estimates["balanced_accuracy"])
            for name, row in confirmation.accuracy.items()
        },
        comparisons=[_compared(one) for one in confirmation.compared if one.metric == "accuracy"],
        generator=Network(
            uri=config.as_written(config.generator.uri),
            fingerprint=first.identity["generator"]["fingerprint"],
        ),
        encoder=Network(uri=config.as_written(config.encoder), fingerprint=setup.encoder.fingerprint),
        second_encoder=None
        if setup.second is None
        else Network(
            uri=config.as_written(config.confirm.second_encoder or ""), fingerprint=setup.second.fingerprint
        ),
        encoder_checks=setup.encoder_checks.entries(config),
        data=first.data.fingerprint,
        seeds=Seeds(
            study=config.seed,
            sampler=first.panel.sampler,
            search=list(first.panel.search),
            confirmation=list(first.panel.confirmation),
        ),
        settings={
            "aim": "set",
            "generator": {k: v for k, v in first.identity["generator"].items() if k != "fingerprint"},
            "score": config.set_score.model_dump(mode="json"),
            "set": config.set.model_dump(mode="json"),
            "search": config.as_written(config.search.model_dump(mode="json")),
            "confirm": config.as_written(config.confirm.model_dump(mode="json")),
        },
        versions=software_versions(),
    )


def _class(one: ClassSearch, confirmed: ConfirmedClass, confirmation: Confirmation) -> ClassEntry:
    chosen, state = confirmed.chosen, one.known
    images = {candidate: look.images for candidate, look in state.looks.items()}
    certificate = chosen.certificate
    pools = ("reference", "validation", "test")
    return ClassEntry(
        label=one.label,
        category=one.setup.category.name,
        baseline=one.baseline.prompt,
        real_images={pool: len(one.setup.positives.where(pool=pool)) for pool in pools},
        set=PromptSet(
            prompts=[
                _weighted(candidate, weight, images[candidate], chosen.adds[candidate])
                for candidate, weight in chosen.weights.items()
            ]
        ),
        learned=None if chosen.learned is None else _learned(one, chosen.learned),
        single=_weighted(chosen.single, 1.0, images[chosen.single], 0.0),
        sizes=[
            SizeEntry(prompts=size, fitted=_number(fitted), held_out=EstimateEntry.of(held))
            for size, fitted, held in zip(
                chosen.sizes.sizes, chosen.sizes.fitted, chosen.sizes.held_out, strict=True
            )
        ],
        certificate=None
        if certificate is None
        else CertificateEntry(
            bound=_number(certificate.bound),
            expected=_number(certificate.expected),
            probability=certificate.probability,
            share=rounded(certificate.share),
            prompts=certificate.prompts,
            complete=certificate.complete,
            sentence=certificate.sentence(),
        ),
        prompts_in_space=one.setup.space.size,
        prompts_measured=len(state.looks),
        images_in_search=state.images,
        stopped=one.stopped,
        closeness={name: EstimateEntry.of(value) for name, value in confirmed.closeness.items()},
        second_encoder={name: EstimateEntry.of(value) for name, value in confirmed.second.items()},
        comparisons=[_compared(c) for c in confirmation.compared if c.label == one.label],
        metrics={
            name: {metric: EstimateEntry.of(value) for metric, value in own.items()}
            for name, own in confirmed.metrics.items()
        },
        distances=_distances(one, chosen.weights),
        generators=member_networks(one.setup),
    )


def _distances(one: ClassSearch, weights: Mapping[Candidate, float]) -> DistancesEntry | None:
    if len(weights) < 2:
        return None
    measure, apart = prompt_distances(one.setup.config.set, [candidate.prompt for candidate in weights])
    w = np.array(list(weights.values()))
    return DistancesEntry(
        measure=measure,
        mean=round(float(w @ apart @ w), 4),
        nearest=round(float(apart[np.triu_indices(len(apart), 1)].min()), 4),
        between=apart.round(4).tolist(),
    )


def _weighted(candidate: Candidate, weight: float, images: int, adds: float) -> WeightedPrompt:
    content: dict[str, Any] = candidate.to_json()
    return WeightedPrompt(weight=weight, images=images, adds=_number(adds), **content)


def _learned(one: ClassSearch, product: Product) -> LearnedTemplate:
    space = one.setup.space
    weights = {
        slot.name: dict(zip(slot.options, (round(float(p), 4) for p in row), strict=True))
        for slot, row in zip(space.slots, product.marginals, strict=True)
    }
    together = {}
    for block, joint in zip(product.blocks, product.probabilities, strict=True):
        if len(block) == 2:
            first, second = (space.slots[s] for s in block)
            both = itertools.product(first.options, second.options)
            together[first.name, second.name] = dict(zip(both, joint.ravel().tolist(), strict=True))
    return LearnedTemplate(
        template=weighted_template(space, weights, together=together),
        weights=weights,
        pairs=list(together),
        strength=_number(product.strength),
    )


def _compared(one: Compared) -> ComparisonEntry:
    return ComparisonEntry(
        first=one.first,
        second=one.second,
        metric=one.metric,
        difference=EstimateEntry.of(one.estimate),
        p_value=_number(one.p_value),
        p_adjusted=_number(one.p_adjusted),
        verdict=one.verdict,
    )


def _number(value: float) -> float:
    return float(rounded(value) or 0.0)
