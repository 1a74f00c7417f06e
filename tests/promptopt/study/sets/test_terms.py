"""The terms beside closeness: what they favor, and in which unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from evaluation.classifier.probe import fit_probe
from evaluation.metrics.mmd import gaussian_kernel
from promptopt.config.sets import SetScore
from promptopt.space import Candidate
from promptopt.study.sets.terms import CurrentSet, LinearPart, RealImages, TermBook

RNG = np.random.default_rng(0)
CENTERS = {"polyp": np.array([1.5, 0.0, 0.0]), "normal": np.array([-1.5, 0.0, 0.0])}


def real(count: int, seed: int) -> RealImages:
    rng = np.random.default_rng(seed)
    rows = [rng.normal(center, 1.0, (count, 3)) for center in CENTERS.values()]
    return RealImages(np.concatenate(rows), np.repeat(list(CENTERS), count))


def book(score: SetScore, sets: Mapping[str, CurrentSet]) -> TermBook:
    training, validation = real(12, 1), real(40, 2)
    return TermBook(
        label="polyp",
        score=score,
        class_weights=None,
        target="polyps",
        probe=fit_probe(training.features, training.labels == "polyp", seed=0),
        training=training,
        validation=validation,
        reference=training.features[training.labels == "polyp"],
        sets=lambda: sets,
        reals=lambda: {label: training.features[training.labels == label] for label in CENTERS},
        bandwidth=2.0,
    )


def current(center: np.ndarray, count: int = 20, spread: float = 1.0) -> CurrentSet:
    return CurrentSet(RNG.normal(center, spread, (count, 3)), np.full(count, 1 / count))


@pytest.mark.parametrize("name", ["margin", "gain", "accuracy"])
def test_images_of_the_right_class_are_worth_more(name: str) -> None:
    terms = book(SetScore(**{name: 1.0}), {label: current(center) for label, center in CENTERS.items()})
    right, wrong = (RNG.normal(CENTERS[label], 0.5, (30, 3)) for label in ("polyp", "normal"))
    assert terms.used == (name,)
    assert terms.values(name, right).mean() > terms.values(name, wrong).mean()


def test_the_frechet_term_asks_for_what_the_set_lacks() -> None:
    off = {"polyp": current(CENTERS["polyp"] + [0, 2, 0], spread=0.3), "normal": current(CENTERS["normal"])}
    terms = book(SetScore(frechet=1.0), off)
    there, more_of_it = (
        RNG.normal(c, 0.3, (30, 3)) for c in (CENTERS["polyp"], CENTERS["polyp"] + [0, 2, 0])
    )
    assert terms.values("frechet", there).mean() > terms.values("frechet", more_of_it).mean()


def test_without_a_set_terms_of_the_set_say_nothing() -> None:
    empty = {label: CurrentSet(np.empty((0, 3)), np.empty(0)) for label in CENTERS}
    terms = book(SetScore(frechet=1.0, accuracy=1.0), empty)
    rows = RNG.normal(size=(5, 3))
    assert not terms.values("frechet", rows).any()
    assert not terms.values("accuracy", rows).any()


def linear(score: SetScore, unit: float) -> dict[Candidate, Any]:
    rng = np.random.default_rng(1)
    known = {
        Candidate("plain"): rng.normal(CENTERS["polyp"], 1, (16, 3)),
        Candidate("wrong"): rng.normal(CENTERS["normal"], 1, (8, 3)),
    }
    part = LinearPart(
        book(score, {}), features=lambda: known, baseline=Candidate("plain"), closeness_unit=lambda: unit
    )
    return part({})


def test_a_term_has_the_unit_of_the_closeness() -> None:
    one = linear(SetScore(margin=1.0), 0.1)
    plain = one[Candidate("plain")]
    assert plain.std(ddof=1) == pytest.approx(0.1, rel=1e-3)
    assert one[Candidate("wrong")].mean() > plain.mean()  # t: less is better
    assert linear(SetScore(margin=1.0), 0.2)[Candidate("plain")] == pytest.approx(2 * plain, abs=1e-4)


def test_weights_are_relative_to_the_closeness() -> None:
    one, half = linear(SetScore(margin=1.0), 0.1), linear(SetScore(closeness=2.0, margin=1.0), 0.1)
    assert half[Candidate("wrong")] == pytest.approx(one[Candidate("wrong")] / 2, abs=1e-4)


def test_contrast_is_the_slope_of_the_distance_between_the_errors_of_two_classes() -> None:
    other = current(CENTERS["normal"] + [0, 1, 0])
    terms = book(SetScore(contrast=0.4), {"polyp": current(CENTERS["polyp"]), "normal": other})
    reals, kernel, c = terms.reals(), gaussian_kernel(2.0), 0.4
    prompts = [RNG.normal(CENTERS["polyp"] + [0, shift, 0], 1.0, (8, 3)) for shift in (0.0, 1.0, -1.0)]
    points = [*prompts, reals["polyp"], other.features, reals["normal"]]
    means = np.array([[kernel(a, b).mean() for b in points] for a in points])

    def errors(weights: np.ndarray) -> tuple[float, float]:
        """Squared length of the error of polyps, and of its difference from that of normal mucosa."""
        own = np.array([*weights, -1, 0, 0])
        both = own - np.array([0, 0, 0, 0, 1, -1])
        return float(own @ means @ own), float(both @ means @ both)

    linear = np.array([c * terms.contrast(rows).mean() for rows in prompts])
    gaps = []
    for weights in RNG.dirichlet(np.ones(3), size=6):
        own, both = errors(weights)
        gaps.append((1 - c) * own + c * both - (own - weights @ linear))
    assert np.ptp(gaps) < 1e-5  # equal up to what no weight changes
    away, towards = terms.contrast(prompts[2]).mean(), terms.contrast(prompts[1]).mean()
    assert towards > away  # the normal images err upwards; polyps that do so too are told apart no worse
