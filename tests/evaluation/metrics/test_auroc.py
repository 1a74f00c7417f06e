"""AUROC: scikit-learn's value, DeLong's variance spelt out, and the coverage of the interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from evaluation.metrics.auroc import auroc

SCORES = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40)


@given(SCORES)
def test_value_is_scikit_learns(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    found = auroc(scores, positive)
    if positive.all() or not positive.any():
        assert found.status == "undefined"
        return
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    if found.low is not None and found.high is not None and found.value is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1
    mirrored = auroc(-scores, positive)
    assert mirrored.value == pytest.approx(1 - found.value)  # type: ignore[operator]


def test_interval_is_delongs_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 30).round(1), rng.normal(0, 1, 25).round(1)
    kernel = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    value = kernel.mean()
    variance = kernel.mean(axis=1).var(ddof=1) / 30 + kernel.mean(axis=0).var(ddof=1) / 25
    half = norm.ppf(0.975) * np.sqrt(variance) / (value * (1 - value))
    found = auroc(np.concatenate([x, y]), [True] * 30 + [False] * 25)
    assert (found.value, found.n, found.status) == (pytest.approx(value), 25, "ok")
    assert (found.low, found.high) == pytest.approx((expit(logit(value) - half), expit(logit(value) + half)))


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.9])
def test_interval_covers(truth: float) -> None:
    rng, n, covered = np.random.default_rng(1), 20, 0
    shift = norm.ppf(truth) * np.sqrt(2)
    for _ in range(600):
        scores = np.concatenate([rng.normal(shift, 1, n), rng.normal(0, 1, n)])
        found = auroc(scores, np.arange(2 * n) < n)
        covered += found.low is not None and found.low <= truth <= found.high  # type: ignore[operator]
    assert 0.93 <= covered / 600 <= 0.985


def test_few_and_separated_images_are_marked() -> None:
    assert auroc([3, 2, 1, 0], [True, True, False, False]).low is None
    assert auroc([3, 2, 1, 0], [True, True, False, False]).status == "unreliable"
    assert auroc([1, 1, 1, 1], [True, True, False, False]).value == 0.5
    assert auroc([], []).status == "undefined"
    with pytest.raises(ValueError, match="one for each"):
        auroc([1.0], [True, False])
    with pytest.raises(ValueError, match="not finite"):
        auroc([1.0, np.nan], [True, False])
