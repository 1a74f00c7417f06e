"""Intervals over training seeds and test groups: they hold the truth as often as they say, or are caught."""

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from evaluation.inference.bootstrap import GroupBootstrap, SeedScores
from evaluation.inference.intervals import interval_estimate, p_value

IMAGES, SEEDS, MEAN, SPREAD = 600, 5, 0.75, 0.07
TRIALS, RESAMPLES = 800, 400
LEAST = binom.ppf(1e-3, TRIALS, 0.95) / TRIALS  # what a 95 % interval stays above


def simulated(
    rng: np.random.Generator, weights: np.ndarray, *, seeds: int = SEEDS, spread: float = SPREAD
) -> SeedScores:
    """Classifiers whose true accuracies vary between seeds; what one reads wrong the others tend to, too."""
    chance = rng.normal(MEAN, spread, size=seeds)
    right = rng.random((IMAGES, 1)) < chance
    return SeedScores(
        values=right.mean(axis=0),
        replicates=weights @ right / weights.sum(axis=1, keepdims=True),
        groups=IMAGES,
        freedom=IMAGES - 1,
    )


def of_groups(scores: SeedScores) -> float:
    return float(scores.replicates.mean(axis=1).var(ddof=1))


def s_drawn_of_s(scores: SeedScores) -> tuple[float, int]:
    """S seeds drawn of S, which gives (S - 1) / S of their variance, and freedom of the images."""
    return of_groups(scores) + float(scores.values.var()) / len(scores.values), scores.freedom


def normal_quantile(scores: SeedScores) -> tuple[float, int]:
    """The right variance, but as if it were known from the many images."""
    return scores.spread()[0], scores.freedom


def pooled(scores: SeedScores) -> tuple[float, int]:
    """Every seed's images taken for images of one classifier."""
    return of_groups(scores), scores.freedom


def coverage(how, *, difference: bool = False, seeds: int = SEEDS, spread: float = SPREAD) -> float:
    rng = np.random.default_rng(7)
    names = [str(i) for i in range(IMAGES)]
    weights = GroupBootstrap.draw(names, ["x"] * IMAGES, resamples=RESAMPLES, rng=rng).weights
    hits = 0
    for _ in range(TRIALS):
        scores, truth, bounds = simulated(rng, weights, seeds=seeds, spread=spread), MEAN, (0.0, 1.0)
        if difference:
            scores, truth = scores - simulated(rng, weights, seeds=seeds, spread=spread), 0.0
            bounds = (-1.0, 1.0)
        variance, freedom = how(scores)
        found = interval_estimate(
            scores.mean, variance, n=IMAGES, freedom=freedom, method="accuracy", bounds=bounds
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    return hits / TRIALS


@pytest.mark.parametrize("difference", [False, True])
def test_95_percent_intervals_hold_the_truth_in_95_percent(difference: bool) -> None:
    assert LEAST <= coverage(SeedScores.spread, difference=difference) <= 0.985


@pytest.mark.parametrize("wrong", [s_drawn_of_s, normal_quantile, pooled])
def test_the_bound_tells_wrong_intervals_from_right_ones(wrong) -> None:
    assert coverage(wrong) < LEAST


@pytest.mark.parametrize("difference", [False, True])
def test_they_hold_for_seeds_that_hardly_vary_and_nearly_for_three(difference: bool) -> None:
    assert coverage(SeedScores.spread, difference=difference, spread=0.01) >= LEAST
    assert coverage(SeedScores.spread, difference=difference, seeds=3) >= 0.9


def test_seeds_alone_give_students_interval() -> None:
    """No image varies: what is left is the t interval of five numbers."""
    values = np.array([0.1, -0.02, 0.07, 0.12, 0.03])
    scores = SeedScores(values=values, replicates=np.tile(values, (100, 1)), groups=50, freedom=49)
    variance, freedom = scores.spread()
    found = interval_estimate(
        scores.mean, variance, n=50, freedom=freedom, method="difference", bounds=(-1.0, 1.0)
    )
    known = ttest_1samp(values, 0)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)))
    assert p_value(scores.mean, variance, freedom=freedom) == pytest.approx(known.pvalue)


def test_degrees_of_freedom_go_from_those_of_the_seeds_to_those_of_the_groups() -> None:
    rng = np.random.default_rng(3)
    freedom = []
    for spread in (0.5, 0.05, 0.005, 0.0):
        own = rng.normal(0, 0.02, size=(2000, 1))
        values = spread * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        scores = SeedScores(values=values, replicates=values + own, groups=31, freedom=30)
        freedom.append(scores.spread()[1])
    assert freedom[0] == 4
    assert freedom[-1] == 30
    assert freedom == sorted(freedom)


def test_one_seed_is_enough_only_for_what_knows_no_seed() -> None:
    scores = SeedScores(values=np.ones(1), replicates=np.ones((100, 1)), groups=20, freedom=19)
    assert not scores.enough_seeds
    sure = SeedScores(values=np.ones(1), replicates=np.ones((100, 1)), groups=20, freedom=19, seeded=False)
    assert sure.enough_seeds
    assert (scores - sure).seeded
