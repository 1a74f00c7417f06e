"""Mean pairwise distance of one set."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import binomtest

from evaluation.metrics.diversity import diversity


def test_equals_the_mean_over_pairs() -> None:
    x = np.random.default_rng(0).normal(size=(9, 4)) + 1
    pairs = list(itertools.combinations(x, 2))
    assert diversity(x).value == pytest.approx(np.mean([cosine(a, b) for a, b in pairs]))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    euclidean = np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(unit, 2)])
    assert diversity(x, distance="euclidean").value == pytest.approx(euclidean)
    assert diversity(x * np.arange(1, 10)[:, None]).value == pytest.approx(diversity(x).value)


def test_euclidean_interval_is_the_jackknifes() -> None:
    x = np.random.default_rng(1).normal(size=(10, 3)) + 1
    left_out = np.array([diversity(np.delete(x, i, axis=0), distance="euclidean").value for i in range(10)])
    error = np.sqrt(9 / 10 * np.sum((left_out - left_out.mean()) ** 2))
    estimate = diversity(x, distance="euclidean")
    assert estimate.value is not None
    assert estimate.high - estimate.value == pytest.approx(2.2621571628 * error)


def test_known_sets() -> None:
    assert diversity(np.ones((20, 5))).value == pytest.approx(0, abs=1e-12)
    assert diversity(np.eye(6)).value == pytest.approx(1)
    assert diversity(np.array([[1.0, 0.0], [-3.0, 0.0]])).value == pytest.approx(2)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_interval_covers(offset: float) -> None:
    """Also without a common direction, where the first-order variance vanishes."""
    mean = offset * np.array([1.0, 0.5, 0.0, 0.0])
    large = np.random.default_rng(9).normal(size=(400_000, 4)) + mean
    truth = 1 - float(np.sum((large / np.linalg.norm(large, axis=1, keepdims=True)).mean(axis=0) ** 2))
    rng = np.random.default_rng(2)
    found = [diversity(rng.normal(size=(20, 4)) + mean) for _ in range(600)]
    hits = sum(e.low is not None and e.high is not None and e.low <= truth <= e.high for e in found)
    assert binomtest(hits, 600, 0.95).pvalue > 1e-4


def test_status_and_refusals() -> None:
    x = np.random.default_rng(0).normal(size=(16, 3))
    assert diversity(x).status == "ok"
    assert diversity(x[:15]).status == "unreliable"
    assert (diversity(x[:2]).low, diversity(x[:2]).status) == (None, "unreliable")
    assert diversity(x[:1]).status == "undefined"
    x[4] = 0
    with pytest.raises(ValueError, match="row 4 is all zeros"):
        diversity(x)
    with pytest.raises(ValueError, match="'manhattan'"):
        diversity(x, distance="manhattan")  # type: ignore[arg-type]
