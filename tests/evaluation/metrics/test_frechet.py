"""The exact Fréchet distance against closed forms and against others' code."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from evaluation.features.moments import FeatureStatistics
from evaluation.metrics import _frechet_spread, frechet
from evaluation.metrics.frechet import Features, frechet_distance


def value(a: Features, b: Features) -> float:
    estimate = frechet_distance(a, b)
    assert estimate.value is not None
    return estimate.value


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t).real
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * root))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m, d = draw(st.integers(2, 30)), draw(st.integers(2, 30)), draw(st.integers(1, 12))
    scale = 10.0 ** draw(st.integers(-3, 3))
    return scale * rng.normal(size=(n, d)), scale * (rng.normal(size=(m, d)) * 2 + 1), rng


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 8), (60, 400, 40), (200, 50, 30)])
def test_equals_the_matrix_square_root_where_that_is_sound(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(size=(m, d)) + 0.3
    assert value(a, b) == pytest.approx(textbook(a, b), rel=1e-8)


def test_equals_clean_fid_on_one_feature_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    fid = pytest.importorskip("cleanfid.fid")
    root = scipy.linalg.sqrtm

    def with_disp(matrix: np.ndarray, disp: bool = True) -> object:  # SciPy 1.18 no longer takes disp
        return root(matrix) if disp else (root(matrix), 0.0)

    monkeypatch.setattr(fid.linalg, "sqrtm", with_disp)
    rng = np.random.default_rng(5)
    a, b = rng.gamma(2.0, size=(300, 20)), rng.gamma(2.5, size=(250, 20))
    theirs = fid.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert value(a, b) == pytest.approx(theirs, rel=1e-8)


def test_gaussians_of_known_moments() -> None:
    rng = np.random.default_rng(0)

    def exact_moments(n: int, mean: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        x = rng.normal(size=(n, len(mean)))
        x = x - x.mean(0)
        whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
        return whitened * deviations + mean

    mean, s, t = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 0.1]), np.array([3.0, 1.0, 0.2])
    a, b = exact_moments(50, np.zeros(3), s), exact_moments(80, mean, t)
    assert value(a, b) == pytest.approx(np.sum(mean**2) + np.sum((s - t) ** 2), rel=1e-9)


def test_rank_one_by_hand() -> None:
    u, v = np.array([1.0, 0.0, 0.0]), np.array([0.6, 0.8, 0.0])
    a, b = np.outer([-1.0, 1.0], u), np.outer([-2.0, 2.0], v)  # variances 2 along u and 8 along v
    assert value(a, b) == pytest.approx(2 + 8 - 2 * np.sqrt(2 * 8) * 0.6)


def test_both_ways_to_the_trace_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(90, 12)), rng.normal(size=(40, 12)) * 2
    results = []
    for cheap in (0, 10**12):
        monkeypatch.setattr(frechet, "_reduced_cost", lambda *_, cheap=cheap: cheap)
        results.append(value(a, b))
    assert results[0] == pytest.approx(results[1], rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_distance_properties(case: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, rng = case
    distance = value(a, b)
    size = float(np.abs(np.concatenate([a, b])).max()) ** 2 * a.shape[1]
    assert distance >= 0
    assert value(b, a) == pytest.approx(distance, rel=1e-7, abs=1e-10 * size)
    assert value(a, a) == pytest.approx(0, abs=1e-10 * size)
    rotation, _ = np.linalg.qr(rng.normal(size=(a.shape[1], a.shape[1])))
    assert value(a @ rotation, b @ rotation) == pytest.approx(distance, rel=1e-7, abs=1e-10 * size)
    assert value(rng.permutation(a), rng.permutation(b)) == pytest.approx(
        distance, rel=1e-7, abs=1e-10 * size
    )
    assert value(a + 5.0, b + 5.0) == pytest.approx(distance, rel=1e-7, abs=1e-10 * (size + 25 * a.shape[1]))


def test_float32_features_do_not_lose_it() -> None:
    rng = np.random.default_rng(3)
    a = (rng.normal(size=(64, 256)) + 100).astype(np.float32)
    assert value(a, a) == pytest.approx(0, abs=1e-9)


def test_status_follows_the_smaller_set() -> None:
    rng = np.random.default_rng(4)
    large, small = rng.normal(size=(2048, 4)), rng.normal(size=(2047, 4))
    assert frechet_distance(large, large + 1).status == "ok"
    assert frechet_distance(large, small).status == "unreliable"
    assert frechet_distance(large, small).n == 2047
    assert frechet_distance(large, small[:1]).status == "undefined"


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 8), (5, 300, 20), (5, 8, 20), (21, 22, 20)])
def test_statistics_stand_for_samples_on_either_side(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(size=(m, d)) + 0.3
    of_a, of_b = FeatureStatistics.of(a), FeatureStatistics.of_stream(np.array_split(b, 3))
    for x, y in ((of_a, b), (a, of_b), (of_a, of_b)):
        assert value(x, y) == pytest.approx(value(a, b), rel=1e-9)
        assert frechet_distance(x, y).n == min(n, m)
    assert value(of_b, b) == pytest.approx(0, abs=1e-10)


def test_statistics_of_a_scatter_without_full_rank() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(60, 10)) @ np.diag([1.0] * 6 + [0.0] * 4), rng.normal(size=(70, 10))
    kept = FeatureStatistics.of(a)
    assert len(kept.covariance_factor) == 6
    assert value(kept, b) == pytest.approx(value(a, b), rel=1e-9)


def test_equals_clean_fid_with_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    fid = pytest.importorskip("cleanfid.fid")
    root = scipy.linalg.sqrtm
    monkeypatch.setattr(fid.linalg, "sqrtm", lambda x, disp=True: root(x) if disp else (root(x), 0.0))
    rng = np.random.default_rng(6)
    a, b = rng.gamma(2.0, size=(300, 20)), rng.gamma(2.5, size=(250, 20))
    s, t = FeatureStatistics.of(a), FeatureStatistics.of(b)
    theirs = fid.frechet_distance(s.mean, s.covariance, t.mean, t.covariance)
    assert value(s, t) == pytest.approx(theirs, rel=1e-8)


def test_wide_features_against_the_eigenvalues_of_the_product() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(40, 300)) * 2, rng.normal(size=(400, 300))
    product = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
    largest = np.sort(scipy.linalg.eigvals(product).real)[-39:]  # the rank of the smaller set
    spread = a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + spread - 2 * np.sqrt(largest).sum()
    assert value(a, b) == pytest.approx(expected, rel=1e-9)
    assert value(a, FeatureStatistics.of(b)) == pytest.approx(expected, rel=1e-9)


def weighted_distance(a: np.ndarray, b: np.ndarray, v: np.ndarray, w: np.ndarray) -> float:
    """Of images that weigh v and w, all ones for the usual distance."""

    def side(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = weights / weights.sum()
        mean = shares @ x
        return mean, np.sqrt(shares * len(x) / (len(x) - 1))[:, None] * (x - mean)

    (mean_a, x), (mean_b, y) = side(a, v), side(b, w)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + (x * x).sum() + (y * y).sum() - 2 * root)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 40, 5), (20, 25, 60), (20, 90, 30)])
def test_influence_is_the_derivative_by_an_image_s_weight(n: int, m: int, d: int) -> None:
    """The variance is that of the distance's derivatives, taken here by finite differences."""
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)) * 1.5 + 0.2, rng.normal(size=(m, d))
    variance, h = 0.0, 1e-5
    for size, of in (
        (n, lambda w: weighted_distance(a, b, w, np.ones(m))),
        (m, lambda w: weighted_distance(a, b, np.ones(n), w)),
    ):
        slopes = [(of(1 + h * unit) - of(1 - h * unit)) / (2 * h) * size for unit in np.eye(size)]
        variance += np.var(slopes, ddof=1) / size
    _, spread = frechet.distance_and_spread(*frechet.sides(a, b))
    assert spread.singles == pytest.approx(variance, rel=0.15)  # n against n - 1 in the covariance


@pytest.mark.parametrize(("n", "m", "d"), [(60, 50, 4), (50, 90, 20)])
def test_second_order_terms_are_those_of_random_weights(n: int, m: int, d: int) -> None:
    """Images that weigh 1 + h or 1 - h at random: what the distance gains is quadratic in h."""
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(n, d)) * 1.5 + 0.2, rng.normal(size=(m, d))
    whole, ones, h = weighted_distance(a, b, np.ones(n), np.ones(m)), (np.ones(n), np.ones(m)), 0.01
    gains = []
    for _ in range(400):
        v, w = (rng.permutation(np.resize([1.0, -1.0], size)) for size in (n, m))
        up, down = (weighted_distance(a, b, ones[0] + s * v, ones[1] + s * w) for s in (h, -h))
        gains.append((up + down - 2 * whole) / (2 * h**2))
    _, spread = frechet.distance_and_spread(*frechet.sides(a, b))
    assert np.mean(gains) == pytest.approx(spread.bias, rel=0.08)
    assert np.var(gains) == pytest.approx(spread.pairs, rel=0.25)


def test_between_equals_the_second_order_terms_are_all() -> None:
    rng = np.random.default_rng(3)
    found = [
        frechet.distance_and_spread(*frechet.sides(rng.normal(size=(100, 3)), rng.normal(size=(150, 3))))
        for _ in range(300)
    ]
    values = np.array([value for value, _ in found])
    assert values.mean() == pytest.approx(np.mean([spread.bias for _, spread in found]), rel=0.1)
    assert values.var() == pytest.approx(np.mean([spread.pairs for _, spread in found]), rel=0.25)


def test_sum_over_pairs_of_coordinates_by_quadrature() -> None:
    rng = np.random.default_rng(0)
    diagonal = np.array([5.0, 1.0, 0.2, 1e-3])
    x, y = (rng.normal(size=(size, 4)) * np.sqrt(diagonal) for size in (6, 7))
    pairwise = 1 / (diagonal[:, None] + diagonal[None])
    expected = np.einsum("ip,iq,jp,jq,pq->ij", x, x, y, y, pairwise)
    np.testing.assert_allclose(_frechet_spread._covariances(x, y, diagonal), expected, rtol=2e-3)


@pytest.mark.parametrize(("n", "d"), [(16, 8), (64, 8), (32, 32)])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_interval_covers_the_mean_distance_at_its_sizes(n: int, d: int, shift: float) -> None:
    rng = np.random.default_rng(n + d)
    found = [
        frechet_distance(rng.normal(size=(n, d)) * (1 + shift) + shift, rng.normal(size=(n, d)))
        for _ in range(200)
    ]
    truth = float(np.mean([estimate.value for estimate in found]))
    hits = sum(e.low is not None and e.high is not None and e.low <= truth <= e.high for e in found)
    # the first-order jackknife covers 98.5 to 99.5 % between equals
    assert binomtest(hits, len(found), 0.955).pvalue > 1e-4


def test_intervals_where_there_are_none() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(16, 4)), rng.normal(size=(50, 4))
    assert frechet_distance(a, b).low is not None
    assert frechet_distance(a[:15], b).low is None
    assert frechet_distance(a, b, level=None).low is None
    assert frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b)).low is None
    half_fixed = frechet_distance(a, FeatureStatistics.of(b))
    both = frechet_distance(a, b)
    assert "held fixed" in half_fixed.method
    assert half_fixed.low is not None
    assert both.low is not None
    assert half_fixed.low > both.low
    with pytest.raises(ValueError, match="level"):
        frechet_distance(a, b, level=2.0)
    with pytest.raises(ValueError, match="a has 4 features an image and b 3"):
        frechet_distance(a, FeatureStatistics.of(b[:, :3]))
