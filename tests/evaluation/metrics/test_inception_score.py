"""Inception score on any probabilities."""

import numpy as np
import pytest

from evaluation.metrics.inception_score import inception_score


def test_perfect_and_useless_classifiers() -> None:
    certain = np.tile(np.eye(4), (50, 1))
    assert inception_score(certain, splits=1, seed=0).value == pytest.approx(4)
    assert inception_score(np.full((200, 4), 0.25), splits=5, seed=0).value == pytest.approx(1)
    assert inception_score(np.tile([1.0, 0.0], (200, 1)), splits=5, seed=0).value == pytest.approx(1)


def test_equals_the_mutual_information() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=300)
    entropy = -np.sum(p * np.log(p), axis=1).mean()
    marginal = p.mean(axis=0)
    expected = np.exp(-np.sum(marginal * np.log(marginal)) - entropy)
    assert inception_score(p, splits=1, seed=0).value == pytest.approx(expected)


def test_seed_decides_the_splits() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=400)
    first = inception_score(p, splits=10, seed=1)
    assert first == inception_score(p, splits=10, seed=1)
    assert first.value != inception_score(p, splits=10, seed=2).value
    assert first.status == "ok"
    assert "10 splits, seed 1" in first.method


def test_images_sorted_by_class_are_shuffled_first() -> None:
    sorted_by_class = np.repeat(np.eye(4), 100, axis=0)
    assert (inception_score(sorted_by_class, splits=10, seed=0).value or 0) > 3.5


def test_status() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=400)
    assert inception_score(p, splits=10, seed=0).status == "ok"
    assert inception_score(p[:399], splits=10, seed=0).status == "unreliable"
    assert inception_score(p[:9], splits=10, seed=0).status == "undefined"
    assert inception_score(p[:10], splits=10, seed=0).status == "unreliable"
    single = inception_score(p, splits=1, seed=0)
    assert (single.low, single.status) == (None, "unreliable")


def test_logits_and_nonsense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row 1 sums to .*softmax"):
        inception_score([[0.5, 0.5], [2.0, 3.0]], splits=1, seed=0)
    with pytest.raises(ValueError, match="row 0"):
        inception_score([[1.5, -0.5]], splits=1, seed=0)
    with pytest.raises(ValueError, match="splits is 0"):
        inception_score([[1.0, 0.0]], splits=0, seed=0)
