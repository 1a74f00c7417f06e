"""RBF-MMD and KID: unbiased, with intervals that cover, and contributions that add up."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from evaluation import compare
from evaluation.estimate import Estimate
from evaluation.metrics import _two_sample
from evaluation.metrics._score_interval import score_interval
from evaluation.metrics.kid import kid
from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions


def sets(
    seed: int, n: int = 12, m: int = 20, d: int = 5, shift: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + shift, rng.normal(size=(m, d))


def number(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def slow_mmd(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.sum((a - b) ** 2) / (2 * bandwidth**2)))

    xx = np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
    yy = np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
    return float(xx + yy - 2 * np.mean([k(a, b) for a, b in itertools.product(x, y)]))


def test_equals_the_definition_pair_by_pair() -> None:
    x, y = sets(0)
    assert number(mmd(x, y, bandwidth=1.7)) == pytest.approx(slow_mmd(x, y, 1.7), abs=1e-12)


def test_bandwidth_is_the_median_distance_of_the_reference() -> None:
    x, y = sets(1)
    median = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(y, 2)])
    assert median_bandwidth(y) == pytest.approx(median)
    assert mmd(x, y) == mmd(x, y, bandwidth=median_bandwidth(y))
    with pytest.raises(ValueError, match="median distance"):
        median_bandwidth(np.ones((5, 3)))
    with pytest.raises(ValueError, match="1 rows"):
        median_bandwidth(np.ones((1, 3)))


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_bandwidths_are_refused(bandwidth: float) -> None:
    x, y = sets(1)
    with pytest.raises(ValueError, match="bandwidth"):
        mmd(x, y, bandwidth=bandwidth)


def test_kid_equals_clean_fid_where_one_subset_holds_everything() -> None:
    fid = pytest.importorskip("cleanfid.fid")
    rng = np.random.default_rng(2)
    a, b = rng.gamma(2.0, size=(60, 16)), rng.gamma(2.4, size=(60, 16))
    assert number(kid(a, b)) == pytest.approx(fid.kernel_distance(a, b, num_subsets=1), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20), st.integers(2, 20), st.integers(1, 6))
def test_order_translation_and_rotation_do_not_matter(seed: int, n: int, m: int, d: int) -> None:
    x, y = sets(seed, n, m, d)
    rng = np.random.default_rng(seed)
    value = number(mmd(x, y, bandwidth=2.0))
    assert number(mmd(rng.permutation(x), rng.permutation(y), bandwidth=2.0)) == pytest.approx(
        value, abs=1e-12
    )
    assert number(mmd(x + 1000, y + 1000, bandwidth=2.0)) == pytest.approx(value, abs=1e-9)
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    assert number(mmd(x @ rotation, y @ rotation, bandwidth=2.0)) == pytest.approx(value, abs=1e-12)
    assert number(mmd(y, x, bandwidth=2.0)) == pytest.approx(value, abs=1e-12)
    assert number(kid(rng.permutation(x), rng.permutation(y))) == pytest.approx(number(kid(x, y)), abs=1e-9)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sets(3, 11, 17)
    whole = mmd(x, y), kid(x, y)
    monkeypatch.setattr(_two_sample, "BLOCK", 4)
    for once, again in zip(whole, (mmd(x, y), kid(x, y)), strict=True):
        assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high))


@pytest.mark.parametrize("metric", [lambda x, y: mmd(x, y, bandwidth=3.0), kid])
def test_unbiased_between_equals(metric) -> None:
    values = np.array([number(metric(*sets(seed, 16, 40, shift=0.0))) for seed in range(300)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (values < 0).mean() > 0.3


@pytest.mark.parametrize("n", [16, 64])
@pytest.mark.parametrize("shift", [0.0, 0.2, 0.6])
def test_interval_covers_the_truth(n: int, shift: float) -> None:
    d, bandwidth = 5, 3.0
    # E k(x, y) of two Gaussians, in closed form
    width = bandwidth**2
    near = (width / (width + 2)) ** (d / 2)
    truth = 2 * near * (1 - np.exp(-d * shift**2 / (2 * (width + 2))))
    hits = 0
    for seed in range(400):
        estimate = mmd(*sets(seed, n, n, d, shift), bandwidth=bandwidth)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    # the interval of the first-order projection alone covers 98 to 100 % between equals
    assert binomtest(hits, 400, 0.95).pvalue > 1e-4


@pytest.mark.parametrize(("n", "m"), [(9, 9), (6, 14)])
def test_variance_of_the_pairs_is_the_u_statistics_between_equals(n: int, m: int) -> None:
    """Unbiased: the mean of the estimates over draws is the variance of the values over draws."""
    rng = np.random.default_rng(n)

    def linear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b.T

    values, pairs = [], []
    for _ in range(4000):
        x, y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
        of_x, of_y = _two_sample.within(x, linear), _two_sample.within(y, linear)
        both = _two_sample.across(x, y, linear)
        values.append(of_x.means.mean() + of_y.means.mean() - 2 * both.of_x.mean())
        pairs.append((of_x.interaction, of_y.interaction, both.interaction))
    # E (x . x')^2 = d for standard normal x
    np.testing.assert_allclose(np.mean(pairs, axis=0), 3.0, rtol=0.05)
    expected = 3 * (2 / (n * (n - 1)) + 2 / (m * (m - 1)) + 4 / (n * m))
    assert np.var(values) == pytest.approx(expected, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 12), st.integers(4, 12))
def test_score_interval_solves_its_equation(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    value, fixed, slope, t = rng.normal(), rng.exponential(), rng.exponential(), 2.0
    low, high = score_interval(value, fixed=fixed, slope=slope, t=t)
    for end in (low, high):
        assert (value - end) ** 2 == pytest.approx(t**2 * (fixed + slope * max(end, 0.0)), rel=1e-9)
    assert low < value < high
    estimate = mmd(*sets(seed, n, m), bandwidth=2.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < number(estimate) < estimate.high


def test_no_interval_from_three_images_or_from_copies() -> None:
    x, y = sets(0)
    assert (mmd(x[:3], y, bandwidth=1.0).low, mmd(x[:3], y, bandwidth=1.0).status) == (None, "unreliable")
    assert mmd(x[:4], y, bandwidth=1.0).low is not None
    copies = np.ones((20, 5))
    alike = mmd(copies, copies, bandwidth=1.0)
    assert (alike.value, alike.low, alike.status) == (pytest.approx(0.0), None, "unreliable")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20))
def test_contributions_differ_as_mmd_does(seed: int, n: int) -> None:
    x, y = sets(seed, n)
    other = x * 1.2 + 0.3
    c, c_other = (mmd_contributions(z, y, bandwidth=2.0) for z in (x, other))
    difference = number(mmd(x, y, bandwidth=2.0)) - number(mmd(other, y, bandwidth=2.0))
    assert c.shape == (n,)
    assert c.mean() - c_other.mean() == pytest.approx(difference, abs=1e-12)
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_allclose(mmd_contributions(x[order], y, bandwidth=2.0), c[order], atol=1e-12)


def test_contributions_carry_the_spread_of_mmd() -> None:
    """Over repeats, MMD^2 to one reference varies as the contributions of a single repeat say."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 5))
    values, predicted = [], []
    for _ in range(400):
        x = rng.normal(size=(40, 5)) + 0.8
        c = mmd_contributions(x, y, bandwidth=3.0)
        values.append(c.mean())
        predicted.append(c.std(ddof=1) / np.sqrt(len(c)))
    assert np.std(values) == pytest.approx(np.mean(predicted), rel=0.12)


def test_images_that_repeat_what_the_reference_lacks_contribute_most() -> None:
    x, y = sets(5, 20, 100, shift=0.0)
    x[:8, 0] += 6.0
    c = mmd_contributions(x, y)
    assert c[:8].min() > c[8:].max()


def test_paired_interval_covers_the_difference_of_two_generators() -> None:
    rng = np.random.default_rng(1)
    y, bandwidth = rng.normal(size=(200, 4)), 3.0

    def pair(n: int) -> tuple[np.ndarray, np.ndarray]:
        seeds = rng.normal(size=(n, 4))
        return (
            mmd_contributions(seeds + 0.6, y, bandwidth=bandwidth),
            mmd_contributions(seeds * 1.1 + 0.3, y, bandwidth=bandwidth),
        )

    truth = float(np.mean([a.mean() - b.mean() for a, b in (pair(1500) for _ in range(6))]))
    hits = 0
    for _ in range(250):
        estimate = compare(*pair(24))
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert 0.91 <= hits / 250 <= 0.99


def test_collapse_scores_worse_at_64_images() -> None:
    """The reason to search by MMD: at this size the Fréchet distance prefers the collapsed generator."""
    from evaluation import frechet_distance

    worse_by_mmd = worse_by_frechet = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        reference = rng.normal(size=(400, 128))
        honest = rng.normal(size=(64, 128))
        collapsed = rng.normal(size=(64, 128)) * np.sqrt(0.8)
        worse_by_mmd += number(mmd(collapsed, reference)) > number(mmd(honest, reference))
        worse_by_frechet += number(frechet_distance(collapsed, reference)) > number(
            frechet_distance(honest, reference)
        )
    assert worse_by_mmd >= 13
    assert worse_by_frechet == 0


def test_contributions_need_enough_images() -> None:
    x, y = sets(0)
    with pytest.raises(ValueError, match="1 generated and 20 reference"):
        mmd_contributions(x[:1], y, bandwidth=1.0)
    with pytest.raises(ValueError, match="0 reference"):
        mmd_contributions(x, y[:0], bandwidth=1.0)
