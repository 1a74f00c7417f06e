"""Resampled groups: the right variance, intervals that cover, and Holm's adjustment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from evaluation import holm
from evaluation.inference.bootstrap import GroupBootstrap
from evaluation.inference.intervals import interval_estimate, p_value


def test_holm_by_hand():
    # Holm's own scheme for 0.01, 0.04, 0.03, 0.005: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"p_values\[1\]"):
        holm([0.5, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_raw_values_and_bonferroni(raw):
    adjusted = holm(raw)
    for p, q in zip(raw, adjusted, strict=True):
        assert p <= q <= min(1.0, len(raw) * p) or q == pytest.approx(p)
        # every smaller raw value has a smaller or equal adjusted one
        assert all(other <= q for r, other in zip(raw, adjusted, strict=True) if r <= p)


def test_weights_keep_groups_whole_and_every_class_present():
    groups = ["a", "a", "b", "c", "c", "d", "e"]
    labels = ["x", "x", "x", "y", "y", "y", "z"]
    draws = GroupBootstrap.draw(groups, labels, resamples=400, rng=np.random.default_rng(0))
    w = draws.weights
    assert np.array_equal(w[:, 0], w[:, 1])
    assert np.array_equal(w[:, 3], w[:, 4])
    assert np.all(w[:, 6] == 1)  # the only group of its class
    for label in "xyz":
        assert np.all(w[:, [own == label for own in labels]].sum(axis=1) > 0)
    assert (draws.groups, draws.freedom, draws.class_groups) == (5, 2, {"x": 2, "y": 2, "z": 1})


def test_variance_of_a_mean_is_unbiased():
    rng = np.random.default_rng(1)
    values = rng.normal(size=12)
    labels = ["x"] * 12
    draws = GroupBootstrap.draw([str(i) for i in range(12)], labels, resamples=20_000, rng=rng)
    means = draws.weights @ values / draws.weights.sum(axis=1)
    assert means.var() == pytest.approx(values.var(ddof=1) / 12, rel=0.05)


def test_groups_make_the_interval_wider_where_images_are_copies():
    rng = np.random.default_rng(2)
    right = np.repeat(rng.random(60) < 0.7, 5).astype(float)
    labels = ["x"] * 300
    widths = []
    for groups in ([str(i // 5) for i in range(300)], [str(i) for i in range(300)]):
        draws = GroupBootstrap.draw(groups, labels, resamples=4000, rng=np.random.default_rng(0))
        means = draws.weights @ right / draws.weights.sum(axis=1)
        estimate = interval_estimate(
            right.mean(), means.var(ddof=1), n=300, freedom=draws.freedom, method="share"
        )
        assert estimate.low is not None
        assert estimate.high is not None
        widths.append(estimate.high - estimate.low)
    # five copies of each image: the standard error grows by sqrt(5)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(5), rel=0.15)


def test_interval_is_students_for_a_mean():
    rng = np.random.default_rng(3)
    values = rng.normal(0.5, 0.05, size=8)
    draws = GroupBootstrap.draw(list("abcdefgh"), ["x"] * 8, resamples=40_000, rng=rng)
    means = draws.weights @ values / draws.weights.sum(axis=1)
    estimate = interval_estimate(values.mean(), means.var(ddof=1), n=8, freedom=7, method="mean")
    half = 2.3646 * values.std(ddof=1) / np.sqrt(8)  # t quantile, 7 degrees
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.15 * half)


def test_no_spread_is_said_and_not_an_interval_of_no_width():
    estimate = interval_estimate(1.0, 0.0, n=40, freedom=39, method="macro F1")
    assert (estimate.low, estimate.high, estimate.status) == (None, None, "unreliable")
    share = interval_estimate(1.0, 0.0, n=40, freedom=19, method="accuracy", groups=20)
    assert share.low == pytest.approx(20 / (20 + 1.959964**2))  # Wilson at 20 of 20
    assert (share.high, share.status, share.n) == (1.0, "ok", 40)


def test_share_of_independent_images_has_wilsons_interval():
    right = np.arange(100) < 85
    draws = GroupBootstrap.draw(
        [str(i) for i in range(100)], ["x"] * 100, resamples=10_000, rng=np.random.default_rng(0)
    )
    shares = draws.weights @ right / draws.weights.sum(axis=1)
    found = interval_estimate(
        0.85, shares.var(ddof=1), groups=100, n=100, freedom=99, method="share", level=0.95
    )
    wilson = binomtest(85, 100).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.004)


@pytest.mark.parametrize("groups", [12, 30])
def test_interval_of_a_high_share_over_few_groups_covers(groups):
    rng = np.random.default_rng(6)
    names, hits = [str(i // 3) for i in range(3 * groups)], 0
    for _ in range(200):
        right = np.repeat(rng.random(groups) < 0.9, 3)  # frames of one examination are alike
        draws = GroupBootstrap.draw(names, ["x"] * len(names), resamples=200, rng=rng)
        shares = draws.weights @ right / draws.weights.sum(axis=1)
        found = interval_estimate(
            float(right.mean()),
            shares.var(ddof=1),
            groups=groups,
            n=1,
            freedom=draws.freedom,
            method="x",
            level=0.95,
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.9 <= found.high
    assert hits >= binom.ppf(1e-4, 200, 0.95)


def test_p_value_agrees_with_the_interval():
    rng = np.random.default_rng(4)
    for value in rng.normal(0, 2, size=200):
        estimate = interval_estimate(value, 1.0, n=20, freedom=12, method="difference", bounds=(-99, 99))
        p = p_value(value, 1.0, freedom=12)
        assert estimate.low is not None
        assert estimate.high is not None
        assert p is not None
        assert (p < 0.05) == (estimate.low > 0 or estimate.high < 0)
    assert p_value(0.0, 0.0, freedom=10) == 1
    assert p_value(1.0, 0.0, freedom=0) is None
    # ten groups of one stratum that all say the same: the sign test's p
    assert p_value(1.0, 0.0, freedom=9) == pytest.approx(binomtest(10, 10).pvalue)


def test_p_value_of_equals_is_uniform_enough():
    rng = np.random.default_rng(5)
    n, found = 24, 0
    for _ in range(400):
        values = rng.normal(size=n)
        draws = GroupBootstrap.draw([str(i) for i in range(n)], ["x"] * n, resamples=400, rng=rng)
        variance = float((draws.weights @ values / n).var(ddof=1))
        p = p_value(float(values.mean()), variance, freedom=draws.freedom)
        assert p is not None
        found += p < 0.05
    assert found / 400 <= 0.085  # 0.05 and three standard errors


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="resamples is 10"):
        GroupBootstrap.draw(["a"], ["x"], resamples=10, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="1 groups and 2 labels"):
        GroupBootstrap.draw(["a"], ["x", "y"], resamples=100, rng=np.random.default_rng(0))


@pytest.mark.parametrize("chance", [0.75, 0.9])
def test_interval_of_a_share_covers_on_few_groups(chance: float):
    rng, covered = np.random.default_rng(6), 0
    labels = [f"c{i % 2}" for i in range(16)]
    for _ in range(600):
        right = (rng.random(16) < chance).astype(float)
        draws = GroupBootstrap.draw([str(i) for i in range(16)], labels, resamples=300, rng=rng)
        value, means = float(right.mean()), draws.weights @ right / 16
        found = interval_estimate(
            value, means.var(ddof=1), groups=16, n=16, freedom=draws.freedom, method="accuracy", level=0.95
        )
        covered += found.low <= chance <= found.high  # type: ignore[operator]
    assert 0.93 <= covered / 600 <= 0.99
