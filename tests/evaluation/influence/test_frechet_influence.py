"""Influence on the Fréchet distance, against matrix square roots and numeric differentiation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from evaluation.features.moments import FeatureStatistics
from evaluation.influence.frechet_influence import FrechetInfluence
from evaluation.metrics.frechet import frechet_distance


def sets(seed: int, n: int = 12, m: int = 30, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d) + 0.3, rng.normal(size=(m, d))


def moments(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = w @ x
    return mean, (x - mean).T @ np.diag(w) @ (x - mean)


def slow(x: np.ndarray, w: np.ndarray, real: np.ndarray, shrinkage: float) -> float:
    """By the definition, with SciPy's square root of a product that is not symmetric."""
    (mu, s), (m, r) = moments(x, w), moments(real, np.full(len(real), 1 / len(real)))
    target = shrinkage * np.trace(r) / len(r) * np.eye(len(r))
    s, r = (1 - shrinkage) * s + target, (1 - shrinkage) * r + target
    return float(np.sum((mu - m) ** 2) + np.trace(s) + np.trace(r) - 2 * np.trace(np.real(sqrtm(s @ r))))


@pytest.mark.parametrize(("n", "d", "shrinkage"), [(12, 4, 0.0), (12, 4, 0.2), (5, 8, 0.3)])
def test_influence_is_the_derivative_by_the_weight_of_the_image(n: int, d: int, shrinkage: float) -> None:
    x, real = sets(0, n=n, d=d)
    new = np.random.default_rng(9).normal(size=(6, d)) * 2
    w = np.random.default_rng(1).dirichlet(np.ones(n))
    made = FrechetInfluence.fit(x, real, weights=w, shrinkage=shrinkage)
    assert made.value == pytest.approx(slow(x, w, real, shrinkage), rel=1e-9)
    for point, value in zip(new, made.influence(new), strict=True):
        step = 1e-5
        plus, minus = (
            slow(np.vstack([x, point]), np.append((1 - e) * w, e), real, shrinkage) for e in (step, -step)
        )
        assert value == pytest.approx((plus - minus) / (2 * step), rel=1e-5, abs=1e-5)


def test_leave_one_out_is_the_distance_without_the_image() -> None:
    x, real = sets(2, n=9)
    w = np.random.default_rng(2).dirichlet(np.ones(9))
    made = FrechetInfluence.fit(x, real, weights=w, shrinkage=0.1)
    for i, change in enumerate(made.leave_one_out()):
        kept = np.delete(w, i)
        assert made.value + change == pytest.approx(
            slow(np.delete(x, i, axis=0), kept / kept.sum(), real, 0.1), rel=1e-9
        )


def test_to_first_order_leave_one_out_is_minus_the_influence() -> None:
    x, real = sets(3, n=300, m=100, d=3)
    made = FrechetInfluence.fit(x, real)
    first = -made.influence(x) / 299
    assert np.corrcoef(first, made.leave_one_out())[0, 1] > 0.999


def test_without_shrinkage_it_is_the_frechet_distance_over_n() -> None:
    x, real = sets(4, n=50, m=50)
    made = FrechetInfluence.fit(x, real, shrinkage=0.0)
    # the same factor n / (n - 1) on both covariances
    gap = float(np.sum((x.mean(axis=0) - real.mean(axis=0)) ** 2))
    exact = frechet_distance(x, real, level=None).value
    assert exact is not None
    assert made.value - gap == pytest.approx((exact - gap) * 49 / 50, rel=1e-9)


def test_statistics_stand_for_the_real_images() -> None:
    x, real = sets(5)
    rows = FrechetInfluence.fit(x, real, shrinkage=0.2)
    statistics = FrechetInfluence.fit(x, FeatureStatistics.of(real), shrinkage=0.2)
    np.testing.assert_allclose(statistics.influence(x), rows.influence(x), atol=1e-10)


def test_fewer_images_than_features_are_shrunk_by_the_rule_and_refused_without() -> None:
    x, real = sets(6, n=6, m=10, d=20)
    made = FrechetInfluence.fit(x, real)
    assert 0 < made.shrinkage <= 1
    assert np.isfinite(made.influence(real)).all()
    with pytest.raises(ValueError, match="full rank"):
        FrechetInfluence.fit(x, real, shrinkage=0.0)


def test_the_rule_leaves_large_sets_almost_alone_and_a_refit_keeps_it() -> None:
    x, real = sets(7, n=800, m=3000)
    real *= [1.0, 2.0, 3.0, 4.0]  # equal variances in all directions would be shrunk, rightly
    made = FrechetInfluence.fit(x, real)
    assert 0.01 <= made.shrinkage < 0.02
    assert FrechetInfluence.fit(x, FeatureStatistics.of(real)).shrinkage == 0.01
    again = made.refit(x[:5])
    assert again.shrinkage == made.shrinkage
    assert again.value == pytest.approx(slow(x[:5], np.full(5, 0.2), real, made.shrinkage), rel=1e-9)


def test_following_the_influence_lowers_the_distance() -> None:
    x, real = sets(8, n=40)
    made = FrechetInfluence.fit(x, real)
    weights = np.exp(-0.2 * made.influence(x) / np.abs(made.influence(x)).max())
    assert made.refit(x, weights=weights).value < made.value


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 100))
def test_order_rotation_and_scale_of_weights_do_not_matter_and_the_mean_influence_is_zero(
    seed: int, scale: float
) -> None:
    x, real = sets(seed)
    rng = np.random.default_rng(seed)
    w, order = rng.dirichlet(np.ones(12)), rng.permutation(12)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    made = FrechetInfluence.fit(x, real, weights=w, shrinkage=0.1)
    other = FrechetInfluence.fit(
        (x @ turn)[order] + 5, real @ turn + 5, weights=scale * w[order], shrinkage=0.1
    )
    np.testing.assert_allclose(other.influence(real @ turn + 5), made.influence(real), atol=1e-8)
    assert w @ made.influence(x) == pytest.approx(0, abs=1e-9)


def test_what_makes_no_sense_is_refused() -> None:
    x, real = sets(10)
    with pytest.raises(ValueError, match="two or more"):
        FrechetInfluence.fit(x[:1], real)
    with pytest.raises(ValueError, match="from 0 to 1"):
        FrechetInfluence.fit(x, real, shrinkage=1.5)
    with pytest.raises(ValueError, match="4 columns"):
        FrechetInfluence.fit(x, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="NaN"):
        FrechetInfluence.fit(x, real).influence([[np.nan] * 4])
    with pytest.raises(ValueError, match="nothing is left"):
        FrechetInfluence.fit(x, real, weights=[1.0] + [0.0] * 11, shrinkage=0.5).leave_one_out()
