"""Influence on the Inception Score, against the score itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.influence.inception_influence import InceptionInfluence
from evaluation.metrics.inception_score import inception_score


def drawn(seed: int, n: int = 12, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), size=n)


def score(p: np.ndarray, w: np.ndarray) -> float:
    mean = w @ p
    return float(np.exp(sum(w[i] * np.sum(p[i] * np.log(p[i] / mean)) for i in range(len(p)) if w[i])))


def test_equal_weights_give_the_inception_score() -> None:
    p = drawn(0)
    assert InceptionInfluence.fit(p).value == pytest.approx(inception_score(p, splits=1, seed=0).value)


def test_influence_is_the_derivative_by_the_weight_of_the_image() -> None:
    p, new = drawn(1), drawn(2)
    w = np.random.default_rng(3).dirichlet(np.ones(12))
    made, step = InceptionInfluence.fit(p, weights=w), 1e-5
    for i, value in enumerate(made.influence(new)):
        plus, minus = (
            score(np.vstack([p, new[i]]), np.append((1 - e) * w, e)) if e > 0 else _taken(p, new[i], w, e)
            for e in (step, -step)
        )
        assert value == pytest.approx((plus - minus) / (2 * step), abs=1e-6)


def _taken(p: np.ndarray, new: np.ndarray, w: np.ndarray, e: float) -> float:
    """The formula of the definition with a weight below 0."""
    mean = (1 - e) * w @ p + e * new
    parts = [(1 - e) * w[i] * np.sum(p[i] * np.log(p[i] / mean)) for i in range(len(p))]
    return float(np.exp(sum(parts) + e * np.sum(new * np.log(new / mean))))


def test_leave_one_out_and_added_are_the_score_of_the_other_set() -> None:
    p = drawn(4)
    made = InceptionInfluence.fit(p)
    brute = [
        float(inception_score(np.delete(p, i, axis=0), splits=1, seed=0).value or 0) - made.value
        for i in range(len(p))
    ]
    np.testing.assert_allclose(made.leave_one_out(), brute, atol=1e-12)
    rest = InceptionInfluence.fit(p[1:])
    assert rest.added(p[:1], weight=1 / 12)[0] == pytest.approx(made.value - rest.value, abs=1e-12)


def test_influence_ranks_as_leave_one_out_where_there_are_many_images() -> None:
    p = drawn(5, n=400)
    made = InceptionInfluence.fit(p)
    np.testing.assert_allclose(-made.influence(p) / 399, made.leave_one_out(), atol=2e-4)
    assert np.corrcoef(-made.influence(p), made.leave_one_out())[0, 1] > 0.999


def test_a_class_that_the_set_lacks_is_worth_more_than_any_weight_says() -> None:
    made = InceptionInfluence.fit([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    new = [[0.0, 0.0, 1.0]]
    assert np.isposinf(made.influence(new)).all()
    assert made.added(new, weight=1 / 3)[0] == pytest.approx(1.0)  # from 2 to 3 classes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 100))
def test_order_and_scale_of_weights_do_not_matter_and_the_mean_influence_is_zero(
    seed: int, scale: float
) -> None:
    p, rng = drawn(seed), np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(12))
    order = rng.permutation(12)
    made, other = (
        InceptionInfluence.fit(p, weights=w),
        InceptionInfluence.fit(p[order], weights=scale * w[order]),
    )
    np.testing.assert_allclose(other.influence(p), made.influence(p), atol=1e-9)
    assert w @ made.influence(p) == pytest.approx(0, abs=1e-9)
    assert 1 - 1e-9 <= made.value <= 4


def test_what_makes_no_sense_is_refused() -> None:
    made = InceptionInfluence.fit(drawn(6))
    with pytest.raises(ValueError, match="softmax"):
        InceptionInfluence.fit([[0.5, 0.9]])
    with pytest.raises(ValueError, match="no images"):
        InceptionInfluence.fit(np.empty((0, 3)))
    with pytest.raises(ValueError, match="3 columns"):
        made.influence([[0.2, 0.3, 0.5]])
    with pytest.raises(ValueError, match="between 0 and 1"):
        made.added(drawn(7), weight=1.0)
    with pytest.raises(ValueError, match="nothing is left"):
        InceptionInfluence.fit(drawn(6)[:1]).leave_one_out()
