"""The weights of a study's prompts: a portfolio fitted on half of the confirmation's images.

What is fitted on what: the weights see every second confirmation image (by seed) and the validation pool.
What they gain is measured on the other images against the test pool, which no weight has seen. The single
best prompt and the top ones, which the portfolio is compared with, were ranked on all images and the test
pool, so that the comparison leans to their side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.portfolio.compare import compare_mixtures
from promptopt.portfolio.distance import SENTENCES, WORDS, sentence_distances
from promptopt.portfolio.fit import Portfolio
from promptopt.portfolio.mixture import PortfolioError
from promptopt.run.prompts import EstimateEntry, MixtureEntry, PortfolioEntry, rounded
from promptopt.scoring.confirm import Confirmed
from promptopt.space import Candidate, unique_labels

if TYPE_CHECKING:
    from evaluation.estimate import Estimate
    from promptopt.scoring.objective import Measurement, Objective


@dataclass(frozen=True)
class Weighing:
    """Candidate -> share of the mixture, how it came about, and what it gains (None for one prompt alone)."""

    weights: Mapping[Candidate, float]
    note: str
    entry: PortfolioEntry | None


def check_sentence_model(config: StudyConfig) -> None:
    """Raise a StudyError when the sentence model that the study names cannot be used."""
    named = {"portfolio": config.portfolio.sentence_model}
    if config.aim == "set":
        named = {"set": config.set.sentence_model}
    for key, model in named.items():
        if model is not None:
            try:
                sentence_distances(["a", "b"], model)
            except PortfolioError as error:
                raise StudyError(f"{config.source}: {key}.sentence_model: {error}") from error


def weigh(
    confirmed: Sequence[Confirmed],
    *,
    baseline: Measurement,
    searching: Objective,
    confirming: Objective,
    config: StudyConfig,
) -> Weighing:
    """Fit the portfolio of the confirmed prompts, and compare it with the first one and the first few.

    Args:
        baseline: the plain prompt's confirmation; the alignment floor is relative to it.
        searching: holds the validation pool, to fit against.
        confirming: holds the test pool, to compare on.
    """
    settings = config.portfolio
    first = confirmed[0].candidate
    labels = unique_labels(c.candidate for c in confirmed)
    if settings.size == 1:
        return Weighing({first: 1.0}, "all on the first prompt: portfolio.size is 1", None)
    if not confirming.has_real:
        return Weighing({first: 1.0}, "all on the first prompt: there are no real images to fit to", None)
    features = {
        labels[c.candidate]: confirming.features.features(confirming.encoder, c.measurement.images)
        for c in confirmed
    }
    floor = _floor(baseline, settings.alignment_floor)
    term = _margin(baseline)
    alignment = {labels[c.candidate]: float(np.mean(c.measurement.per_image[term])) for c in confirmed}
    if floor is not None and max(alignment.values()) < floor:
        note = f"all on the first prompt: every prompt is below the alignment floor of {floor:.3g}"
        return Weighing({first: 1.0}, note, None)
    prompts = list(features)
    model = settings.sentence_model
    portfolio = Portfolio.fit(
        {prompt: rows[::2] for prompt, rows in features.items()},
        searching.held_out.positives,
        size=settings.size,
        bandwidth=confirming.bandwidth,
        min_distance=settings.min_distance,
        distances=None if model is None else sentence_distances(prompts, model),
        alignment=alignment,
        alignment_floor=floor,
    )
    top = prompts[: settings.size]
    mixtures = {
        "portfolio": portfolio.weights,
        "single_best": {prompts[0]: 1.0},
        "uniform_top": {prompt: 1.0 / len(top) for prompt in top},
    }
    rest = {prompt: rows[1::2] for prompt, rows in features.items()}
    compared = compare_mixtures(
        mixtures,
        rest,
        held_out=confirming.held_out,
        training_negatives=confirming.training_negatives,
        bandwidth=confirming.bandwidth,
        seed=confirming.seed,
    )
    fitted = len(features[prompts[0]][::2])
    left = len(rest[prompts[0]])
    return Weighing(
        {one: portfolio.weights[label] for one, label in labels.items() if label in portfolio.weights},
        f"portfolio of at most {settings.size} prompts, fitted on {fitted} images a prompt to the validation "
        f"pool; compared on the other {left} with the test pool",
        PortfolioEntry(
            method=portfolio.method,
            distance=f"at least {settings.min_distance:g} by {WORDS if model is None else SENTENCES}",
            alignment_floor=rounded(floor),
            left_out=dict(portfolio.left_out),
            images_fitted=fitted,
            images_compared=left,
            compared={
                name: MixtureEntry(
                    weights={prompt: _share(share) for prompt, share in weights.items()},
                    estimates=_entries(compared.estimates[name]),
                )
                for name, weights in mixtures.items()
            },
            differences={name: _entries(gaps) for name, gaps in compared.differences.items()},
        ),
    )


def _margin(measured: Measurement) -> str:
    """The term of the floor: by an encoder without texts, the probe's."""
    return "alignment" if "alignment" in measured.per_image else "utility"


def _floor(baseline: Measurement, floor: float | None) -> float | None:
    if floor is None:
        return None
    own = baseline.per_image[_margin(baseline)]
    return float(np.mean(own) + floor * np.std(own, ddof=1))


def _share(value: float) -> float:
    return float(f"{value:.6g}")


def _entries(estimates: Mapping[str, Estimate]) -> dict[str, EstimateEntry]:
    return {name: EstimateEntry.of(estimate) for name, estimate in estimates.items()}
