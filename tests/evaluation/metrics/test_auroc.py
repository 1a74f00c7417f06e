"""AUROC: scikit-learn's value, DeLong's variance spelled out, and the coverage of the interval."""

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
    assert found.value is not None
    low, high = (0.0, 1.0) if found.low is None or found.high is None else (found.low, found.high)
    assert 0 <= low <= found.value <= high <= 1
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


def test_groups_of_one_image_give_delongs_interval() -> None:
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.normal(1, 1, 60), rng.normal(0, 1, 80)])
    positive = np.arange(140) < 60
    alone = auroc(scores, positive)
    grouped = auroc(scores, positive, groups=[str(i) for i in range(140)], resamples=4000)
    assert (grouped.value, grouped.n, grouped.status) == (alone.value, 60, "ok")
    # t with 138 degrees in place of the normal quantile, and 4,000 replicates
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=0.006)


def test_grouped_interval_covers_where_images_are_alike() -> None:
    n, truth, hits = 20, 0.8, {"groups": 0, "images": 0}
    number = np.repeat(np.arange(2 * n), 3)
    positive = number < n
    for trial in range(250):
        rng = np.random.default_rng([7, trial])
        scores = rng.normal(size=2 * n)[number] * np.sqrt(0.8) + rng.normal(size=6 * n) * np.sqrt(0.2)
        scores += positive * norm.ppf(truth) * np.sqrt(2)
        for kind, groups in (("groups", [str(i) for i in number]), ("images", None)):
            found = auroc(scores, positive, groups=groups, resamples=200)
            hits[kind] += found.low <= truth <= found.high  # type: ignore[operator]
    assert 0.92 <= hits["groups"] / 250 <= 0.985
    assert hits["images"] / 250 < 0.9


def test_one_group_of_a_class_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    found = auroc(rng.normal(size=40), np.arange(40) < 20, groups=["a"] * 20 + [str(i) for i in range(20)])
    assert (found.low, found.status) == (None, "unreliable")
    few = auroc(rng.normal(size=80), np.arange(80) % 2 == 0, groups=[str(i // 4) for i in range(80)])
    assert (few.low is not None, few.status) == (True, "ok")
    assert auroc(rng.normal(size=40), np.arange(40) < 20, groups=[str(i // 4) for i in range(40)]).status == (
        "unreliable"
    )
    with pytest.raises(ValueError, match="3 names for 2 scores"):
        auroc([0.0, 1.0], [True, False], groups=["a", "b", "c"])


def test_many_images_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    scores, positive = rng.normal(size=60), np.arange(60) % 3 == 0
    groups = [str(i // 2) for i in range(60)]
    whole = auroc(scores, positive, groups=groups, resamples=2000)
    monkeypatch.setattr("evaluation.metrics.auroc._WEIGHTS", 60 * 150)
    parts = auroc(scores, positive, groups=groups, resamples=2000)
    assert parts.low == pytest.approx(whole.low, abs=0.02)
