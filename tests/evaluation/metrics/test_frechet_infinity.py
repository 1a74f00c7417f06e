"""The distance between populations: without the bias of finite sets, with an interval that covers."""

import numpy as np
import pytest
from scipy.stats import binomtest

from evaluation import FeatureStatistics, frechet_distance, frechet_infinity
from evaluation.metrics.frechet import Side
from evaluation.metrics.frechet_infinity import _leave_out


def draws(seed: int, n: int = 64, d: int = 8, shift: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * (1 + shift) + shift, rng.normal(size=(n, d))


def truth(d: int, shift: float) -> float:
    return d * (shift**2 + shift**2)  # means and standard deviations both differ by it


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_removes_the_bias_and_covers_the_population_value(shift: float) -> None:
    d, runs = 8, 200
    found = [frechet_infinity(*draws(seed, d=d, shift=shift), seed=seed, rounds=2) for seed in range(runs)]
    plain = [frechet_distance(*draws(seed, d=d, shift=shift), level=None).value for seed in range(50)]
    right = truth(d, shift)
    values = np.array([estimate.value for estimate in found])
    assert np.mean(plain) - right > 0.3
    assert abs(values.mean() - right) < 3 * values.std() / np.sqrt(runs) + 0.02
    hits = sum(e.low is not None and e.high is not None and e.low <= right <= e.high for e in found)
    assert binomtest(hits, runs, 0.95).pvalue > 1e-4


def test_against_statistics_that_stand_for_the_population() -> None:
    rng = np.random.default_rng(0)
    population = FeatureStatistics.of(rng.normal(size=(200_000, 4)))
    found = [frechet_infinity(rng.normal(size=(100, 4)) + 0.5, population, seed=i) for i in range(60)]
    assert np.mean([e.value for e in found]) == pytest.approx(1.0, abs=0.08)
    assert all("held fixed" in e.method and e.status == "ok" and e.n == 100 for e in found)


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    a, b = draws(1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert frechet_infinity(a, b, seed=3) == frechet_infinity(a, b, seed=3)
    assert frechet_infinity(a, b, seed=3).value != frechet_infinity(a, b, seed=4).value
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_parts_complete_each_other() -> None:
    x = np.random.default_rng(2).normal(size=(11, 3)) + 7
    rests = list(_leave_out(Side.of_samples(x), 3, np.random.default_rng(0)))
    assert sorted(rest.count for rest in rests) == [7, 7, 8]
    total = sum(rest.count * rest.mean for rest in rests)
    np.testing.assert_allclose(total, 2 * x.sum(axis=0))  # each image stands in two of the three
    image = rests[0].rows * np.sqrt(rests[0].count - 1) + rests[0].mean
    assert all(np.isclose(x, row).all(axis=1).any() for row in image)


def test_where_it_cannot_tell() -> None:
    a, b = draws(3, n=60)
    few = frechet_infinity(a, b, seed=0)
    assert (few.status, few.low) == ("unreliable", None)
    wide = frechet_infinity(*draws(3, n=64, d=17), seed=0)  # fewer than four images a feature
    assert (wide.status, wide.low) == ("unreliable", None)
    assert frechet_infinity(a[:3], b, seed=0).status == "undefined"
    kept = FeatureStatistics.of(a)
    assert frechet_infinity(kept, FeatureStatistics.of(b), seed=0).status == "undefined"
    with pytest.raises(ValueError, match="rounds is 0"):
        frechet_infinity(a, b, seed=0, rounds=0)
    with pytest.raises(ValueError, match="level"):
        frechet_infinity(a, b, seed=0, level=0.0)
