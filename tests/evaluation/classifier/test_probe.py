"""The linear probe: finds what is there, the same way each time, and refuses what cannot be learned."""

import numpy as np
import pytest
from scipy.optimize import minimize

from evaluation import fit_probe, synthetic_to_real
from evaluation.classifier.probe import accuracy, balanced_accuracy


def clouds(n: int, *, gap: float, seed: int, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2 == 0
    return rng.normal(size=(n, d)) + gap * labels[:, None] * np.eye(d)[0], labels


def test_separates_what_is_separable_and_not_noise() -> None:
    train, labels = clouds(200, gap=6.0, seed=0)
    test, truth = clouds(200, gap=6.0, seed=1)
    assert (fit_probe(train, labels, seed=0).accuracy(test, truth).value or 0) > 0.97
    noise, truth = clouds(400, gap=0.0, seed=2)
    blind = fit_probe(train, labels, seed=0).accuracy(noise, truth)
    assert blind.low is not None
    assert blind.high is not None
    assert blind.low < 0.5 < blind.high


def test_solves_the_penalized_problem() -> None:
    x, y = clouds(40, gap=1.0, seed=3)
    y[:10] = True
    probe = fit_probe(x, y, seed=0)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    weight = np.where(y, len(y) / (2 * y.sum()), len(y) / (2 * (~y).sum()))

    def loss(parameters: np.ndarray) -> float:
        margin = np.where(y, 1, -1) * (z @ parameters[:-1] + parameters[-1])
        return float(np.sum(weight * np.logaddexp(0, -margin)) + 0.5 * np.sum(parameters[:-1] ** 2))

    best = minimize(loss, np.zeros(7), tol=1e-10).x
    np.testing.assert_allclose(probe.log_odds(x), z @ best[:-1] + best[-1], atol=5e-3)


def test_same_input_same_probe_and_row_order_does_not_matter() -> None:
    x, y = clouds(60, gap=1.0, seed=4)
    order = np.random.default_rng(0).permutation(60)
    a, b, c = fit_probe(x, y, seed=0), fit_probe(x, y, seed=0), fit_probe(x[order], y[order], seed=0)
    assert np.array_equal(a.log_odds(x), b.log_odds(x))
    np.testing.assert_allclose(a.log_odds(x), c.log_odds(x), atol=1e-3)


def test_scale_of_the_features_does_not_matter_and_constant_ones_do_no_harm() -> None:
    x, y = clouds(60, gap=1.0, seed=5)
    scaled = np.column_stack([x * 1000 + 7, np.full(60, 0.1)])
    plain = fit_probe(x, y, seed=0).log_odds(x)
    np.testing.assert_allclose(fit_probe(scaled, y, seed=0).log_odds(scaled), plain, atol=1e-3)


def test_rare_class_is_not_ignored() -> None:
    x, _ = clouds(300, gap=0.0, seed=6)
    y = np.arange(300) < 15
    x[y, 0] += 2.0
    predicted = fit_probe(x, y, seed=0).log_odds(x) > 0
    assert (balanced_accuracy(predicted, y).value or 0) > 0.75


def test_too_few_images_are_refused_with_the_remedy() -> None:
    x, _ = clouds(20, gap=0.0, seed=7)
    with pytest.raises(ValueError, match=r"0 positive and 20 negative.*add images"):
        fit_probe(x, np.zeros(20, dtype=bool), seed=0)
    with pytest.raises(ValueError, match="expected booleans"):
        fit_probe(x, np.arange(20) % 2, seed=0)
    with pytest.raises(ValueError, match=r"labels has shape \(19,\)"):
        fit_probe(x, np.zeros(19, dtype=bool), seed=0)
    y = np.arange(20) % 2 == 0
    with pytest.raises(ValueError, match="same encoder"):
        fit_probe(x, y, seed=0).log_odds(x[:, :3])
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        fit_probe(x, y, seed=0)


def test_accuracy_and_balanced_accuracy_by_hand() -> None:
    truth = np.array([True] * 4 + [False] * 16)
    predicted = np.array([True] * 3 + [False] * 17)
    assert accuracy(predicted, truth).value == pytest.approx(19 / 20)
    balanced = balanced_accuracy(predicted, truth)
    assert balanced.value == pytest.approx((3 / 4 + 1) / 2)
    assert balanced.status == "unreliable"
    assert accuracy([], []).status == "undefined"
    assert balanced_accuracy(predicted[:4], truth[:4]).status == "undefined"


def test_balanced_interval_covers() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) < 20
    hits = 0
    for _ in range(300):
        predicted = np.where(truth, rng.random(60) < 0.8, rng.random(60) < 0.3)
        estimate = balanced_accuracy(predicted, truth)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 0.75 <= estimate.high
    assert 0.92 <= hits / 300 <= 0.99


def test_synthetic_to_real_ranks_generators() -> None:
    rng = np.random.default_rng(0)
    real, labels = clouds(300, gap=3.0, seed=8)
    negatives = rng.normal(size=(100, 6))
    good = rng.normal(size=(32, 6)) + 3.0 * np.eye(6)[0]
    useless = rng.normal(size=(32, 6)) + 3.0 * np.eye(6)[4]
    common = {"val_features": real, "val_labels": labels, "seed": 0}
    a, b = synthetic_to_real(good, negatives, **common), synthetic_to_real(useless, negatives, **common)
    assert a.low is not None
    assert b.high is not None
    assert a.low > b.high
    assert a.n == 300


def test_synthetic_to_real_without_images_is_undefined_and_a_wrong_set_up_an_error() -> None:
    real, labels = clouds(20, gap=3.0, seed=9)
    none = np.zeros((0, 6))
    assert synthetic_to_real(none, real, val_features=real, val_labels=labels, seed=0).status == "undefined"
    with pytest.raises(ValueError, match="all of one class"):
        synthetic_to_real(real, real, val_features=real, val_labels=np.ones(20, dtype=bool), seed=0)
    with pytest.raises(ValueError, match="0 real negatives"):
        synthetic_to_real(real, none, val_features=real, val_labels=labels, seed=0)
