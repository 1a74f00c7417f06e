"""What every metric must do. A new metric is one line in METRICS."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from evaluation.estimate import Estimate
from evaluation.features.moments import FeatureStatistics
from evaluation.inference.paired import compare
from evaluation.metrics.alignment import ClassWeights, clip_scores, margins
from evaluation.metrics.diversity import diversity
from evaluation.metrics.duplicates import duplicates
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.frechet_infinity import frechet_infinity
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import kid
from evaluation.metrics.memorization import memorization
from evaluation.metrics.mmd import mmd, mmd_contributions

REFERENCE = np.abs(np.random.default_rng(99).normal(size=(30, 4))) + 0.1
KEPT = FeatureStatistics.of(REFERENCE)
WEIGHTS = ClassWeights(("a", "b"), np.eye(4)[:2], 5.0)


def share(x: np.ndarray) -> np.ndarray:
    """Positive rows that sum to 1, as probabilities; an empty matrix stays one."""
    return x / x.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Case:
    """A metric as a function of one set of images; `least` images give a value."""

    name: str
    measure: Callable[[np.ndarray], Estimate]
    least: int
    any_order: bool = True  # False: depends on the order of the images, and its documentation says so

    def __str__(self) -> str:
        return self.name


METRICS = [
    Case("frechet", lambda x: frechet_distance(x, REFERENCE), 2),
    Case("frechet, other side", lambda x: frechet_distance(REFERENCE, x), 2),
    Case("frechet, statistics", lambda x: frechet_distance(x, KEPT), 2),
    Case("frechet infinity", lambda x: frechet_infinity(x, REFERENCE, seed=0), 4, any_order=False),
    Case("mmd", lambda x: mmd(x, REFERENCE), 2),
    Case("mmd, other side", lambda x: mmd(REFERENCE, x, bandwidth=2.0), 2),
    Case("kid", lambda x: kid(x, REFERENCE), 2),
    Case("diversity", lambda x: diversity(x), 2),
    Case("diversity, euclidean", lambda x: diversity(x, distance="euclidean"), 2),
    Case("inception score", lambda x: inception_score(share(x), splits=3, seed=0), 3, any_order=False),
    Case("inception score, whole", lambda x: inception_score(share(x), splits=1, seed=0), 1),
    Case("alignment", lambda x: Estimate.of_mean(margins(x, WEIGHTS, target="a")), 1),
    Case("comparison", lambda x: compare(margins(x, WEIGHTS, target="a"), np.zeros(len(x)), anytime=True), 1),
    Case("memorization", lambda x: memorization(x, REFERENCE, images(19, seed=7), quantile=0.1).share, 1),
    Case("duplicates", lambda x: duplicates(x, REFERENCE, quantile=0.9).share, 2),
    Case("clip score", lambda x: Estimate.of_mean(clip_scores(x, WEIGHTS)[:, 0]), 1),
    Case("mmd contributions", lambda x: Estimate.of_mean(mmd_contributions(x, REFERENCE)), 2),
]


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=(n, 4))) + 0.1


@pytest.mark.parametrize("case", METRICS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gives_an_estimate_that_can_be_stored(case: Case, dtype: type) -> None:
    estimate = case.measure(images(25).astype(dtype))
    assert isinstance(estimate, Estimate)
    assert estimate.value is not None
    assert estimate.n == 25
    assert Estimate.from_json(json.loads(estimate.to_json())) == estimate


@pytest.mark.parametrize("case", METRICS, ids=str)
def test_same_input_same_value_and_input_untouched(case: Case) -> None:
    x = images(20)
    kept = x.copy()
    assert case.measure(x) == case.measure(x)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("case", METRICS, ids=str)
def test_order_of_the_images(case: Case) -> None:
    x = images(20)
    shuffled = case.measure(np.random.default_rng(5).permutation(x))
    if case.any_order:
        assert shuffled.value == pytest.approx(case.measure(x).value, rel=1e-9, abs=1e-12)
    else:
        assert shuffled.value is not None


@pytest.mark.parametrize("case", METRICS, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_finite_and_says_where(case: Case, bad: float) -> None:
    x = images(20)
    x[6, 1] = bad
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=r"row 6 .*NaN"):
        case.measure(x)


@pytest.mark.parametrize("case", METRICS, ids=str)
def test_few_images(case: Case) -> None:
    for n in range(case.least):
        if case.name == "mmd contributions":  # per image, so it has no Estimate to leave undefined
            with pytest.raises(ValueError, match="contributions need"):
                case.measure(images(n))
            continue
        estimate = case.measure(images(n))
        assert (estimate.status, estimate.value, estimate.n) == ("undefined", None, n)
    assert case.measure(images(case.least)).value is not None


@pytest.mark.parametrize("case", METRICS, ids=str)
def test_refuses_a_flat_array(case: Case) -> None:
    with pytest.raises((ValueError, np.exceptions.AxisError)):
        case.measure(np.ones(5))
