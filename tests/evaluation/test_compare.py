"""Same-seed comparison."""

import numpy as np
import pytest
from scipy import stats

from evaluation import paired_difference


def test_equals_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 5, 30)
    a, b = seeds + rng.normal(0.5, 1, 30), seeds + rng.normal(0, 1, 30)
    estimate = paired_difference(a, b)
    reference = stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert estimate.value == pytest.approx((a - b).mean())
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    # what the seeds share cancels: an unpaired comparison would be several times as wide
    unpaired = stats.ttest_ind(a, b).confidence_interval(0.95)
    assert estimate.high - estimate.low < 0.5 * (unpaired.high - unpaired.low)


def test_swapping_changes_the_sign() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.0, 3.0, 1.0])
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_few_pairs_and_unpaired_values() -> None:
    assert paired_difference([], []).status == "undefined"
    assert paired_difference([1.0], [0.5]).status == "unreliable"
    with pytest.raises(ValueError, match="3 values and b 2"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"b\[0\] is nan"):
        paired_difference([1.0, 2.0], [np.nan, 2.0])
