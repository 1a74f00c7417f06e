"""Gain by influence, against retraining and numeric differentiation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from evaluation.influence import _logistic, probe_gain
from evaluation.influence.probe_gain import L2_GRID, ProbeGain, retrained_gain
from tests.evaluation.influence.planted import planted


def synthetic(seed: int, d: int, classes: int = 2, each: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    return {
        "synthetic_features": rng.normal(size=(len(labels), d)) + 0.3 * labels[:, None],
        "synthetic_labels": labels,
        "synthetic_weights": rng.uniform(0.5, 2, len(labels)),
    }


@pytest.mark.parametrize("classes", [2, 3])
def test_probe_is_the_optimum_that_scikit_learn_reaches(classes: int) -> None:
    scene, made = planted(0, classes=classes), synthetic(1, 6, classes)
    probe = ProbeGain.fit(*scene.arguments(), **made, l2=0.7)
    both = np.concatenate([scene.real, scene.validation])
    mean, scale = both.mean(axis=0), both.std(axis=0)
    # its single vector for two classes is the difference of two opposite ones: half the penalty
    model = LogisticRegression(C=(2 if classes == 2 else 1) / 0.7, tol=1e-12, max_iter=10_000)
    model.fit(
        (np.concatenate([scene.real, made["synthetic_features"]]) - mean) / scale,
        np.concatenate([scene.real_labels, made["synthetic_labels"]]),
        sample_weight=np.concatenate([np.ones(len(scene.real)), probe.weights]),
    )
    logs = model.predict_log_proba((scene.validation - mean) / scale)
    expected = -np.mean(logs[np.arange(len(logs)), scene.validation_labels])
    assert probe.loss == pytest.approx(expected, rel=1e-6)
    assert probe.balanced_accuracy == pytest.approx(np.mean(logs.argmax(axis=1) == scene.validation_labels))


@pytest.mark.parametrize(("classes", "d", "dense"), itertools.product([2, 3], [6, 40], [2048, 0]))
def test_gain_is_the_derivative_of_the_validation_loss(
    classes: int, d: int, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer rows than features too, and by conjugate gradients as by Cholesky."""
    monkeypatch.setattr(_logistic, "DENSE", dense)
    scene = planted(2, classes=classes, d=d, real=3, prompts=4)
    probe = ProbeGain.fit(*scene.arguments(), **synthetic(3, d, classes), l2=0.8)
    images = np.concatenate(scene.prompts)[:5]
    single = images[:, None, :]
    step = 1e-4
    near, far = (retrained_gain(probe, single, 0, weight=size) for size in (step, 2 * step))
    np.testing.assert_allclose(probe.gains(images, 0), 2 * near - far, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("with_set", [False, True])
@pytest.mark.parametrize("d", [6, 60])
@pytest.mark.parametrize("classes", [2, 3])
def test_gains_of_prompts_rank_as_retraining(classes: int, d: int, with_set: bool) -> None:
    """A tenth of an image by the derivative, whole images by the Newton step."""
    scene = planted(4, d=d, classes=classes, prompts=30)
    made = synthetic(5, d, classes) if with_set else {}
    probe = ProbeGain.fit(*scene.arguments(), **made, l2=10.0)
    for weight, step in ((0.1, 0.0), (1.0, 1.0), (4.0, 4.0)):
        influence = [probe.gains(images, 0, weight=step).mean() for images in scene.prompts]
        brute = retrained_gain(probe, scene.prompts, 0, weight=weight)
        assert spearmanr(influence, brute).statistic > 0.9


@pytest.mark.parametrize(("classes", "d"), itertools.product([2, 3], [6, 40]))
def test_a_newton_step_is_nearer_to_retraining_with_one_image_than_the_derivative(
    classes: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = planted(20, classes=classes, d=d, real=5, prompts=10)
    probe = ProbeGain.fit(*scene.arguments(), **synthetic(3, d, classes), l2=5.0)
    images = np.concatenate(scene.prompts)
    brute = retrained_gain(probe, images[:, None, :], 0, weight=0.5)
    stepped = probe.gains(images, 0, weight=0.5)
    assert np.abs(stepped - brute).mean() < 0.25 * np.abs(probe.gains(images, 0) - brute).mean()
    np.testing.assert_allclose(
        probe.gains(images, 0, weight=1e-6), probe.gains(images, 0), rtol=1e-3, atol=1e-6
    )
    monkeypatch.setattr(probe_gain, "BLOCK", 7)
    np.testing.assert_allclose(probe.gains(images, 0, weight=0.5), stepped, rtol=1e-10, atol=1e-12)
    assert probe.gains(images[:0], 0, weight=0.5).shape == (0,)


def test_own_gains_are_those_of_the_same_images_and_changing_the_weights_changes_the_loss_by_them() -> None:
    scene, made = planted(6), synthetic(7, 6)
    probe = ProbeGain.fit(*scene.arguments(), **made, l2=1.0)
    np.testing.assert_allclose(
        probe.own_gains, probe.gains(made["synthetic_features"], made["synthetic_labels"]), atol=1e-12
    )
    step = 1e-5 * np.random.default_rng(0).normal(size=10)
    plus, minus = (
        probe.refit(**{**made, "synthetic_weights": probe.weights + sign * step}) for sign in (1, -1)
    )
    # the total of a class stays: its number of images
    moved = (plus.weights - minus.weights) @ probe.own_gains
    assert minus.loss - plus.loss == pytest.approx(moved, rel=1e-4)


def test_synthetic_weight_is_the_total_of_each_class() -> None:
    scene, made = planted(8), synthetic(9, 6)
    for total, expected in ((None, 5.0), (30.0, 30.0)):
        probe = ProbeGain.fit(*scene.arguments(), **made, synthetic_weight=total, l2=1.0)
        np.testing.assert_allclose([probe.weights[:5].sum(), probe.weights[5:].sum()], expected)
        np.testing.assert_allclose(
            probe.weights[:5] / probe.weights[0], made["synthetic_weights"][:5] / made["synthetic_weights"][0]
        )


def test_a_refit_equals_a_fit() -> None:
    scene, made = planted(10), synthetic(11, 6)
    fitted = ProbeGain.fit(*scene.arguments(), **made, l2=2.0)
    refitted = ProbeGain.fit(*scene.arguments(), l2=2.0).refit(**made)
    assert refitted.loss == pytest.approx(fitted.loss, rel=1e-12)
    np.testing.assert_allclose(
        refitted.gains(scene.prompts[0], 0), fitted.gains(scene.prompts[0], 0), rtol=1e-8
    )
    assert fitted.refit().loss == pytest.approx(ProbeGain.fit(*scene.arguments(), l2=2.0).loss, rel=1e-12)


def test_separated_real_images_have_a_finite_probe_and_the_penalty_is_the_best_of_the_grid() -> None:
    scene = planted(12, d=60, real=4)  # 8 points in 60 dimensions are always separable
    probe = ProbeGain.fit(*scene.arguments())
    losses = {l2: ProbeGain.fit(*scene.arguments(), l2=l2).loss for l2 in L2_GRID}
    assert probe.l2 == min(losses, key=lambda l2: losses[l2])
    assert min(L2_GRID) < probe.l2 < max(L2_GRID)
    assert probe.loss < math.log(2)
    assert np.isfinite(probe.gains(scene.prompts[0], 0)).all()


def test_validation_loss_is_the_mean_over_classes_of_the_mean_over_groups() -> None:
    scene = planted(13)
    rng = np.random.default_rng(13)
    kept = np.sort(rng.permutation(80)[:50])  # classes of different sizes
    truth, groups = scene.validation_labels[kept], rng.integers(0, 6, size=50)
    fitted = ProbeGain.fit(
        scene.real, scene.real_labels, scene.validation[kept], truth, validation_groups=groups, l2=1.0
    )
    both = np.concatenate([scene.real, scene.validation[kept]])
    mean, scale = both.mean(axis=0), both.std(axis=0)
    model = LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000)
    model.fit((scene.real - mean) / scale, scene.real_labels)
    logs = model.predict_log_proba((scene.validation[kept] - mean) / scale)
    own = -logs[np.arange(50), truth]
    means = [
        np.mean([own[(truth == c) & (groups == g)].mean() for g in np.unique(groups[truth == c])])
        for c in (0, 1)
    ]
    assert fitted.loss == pytest.approx(np.mean(means), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 10), st.floats(0.01, 100))
def test_order_unit_of_the_features_and_scale_of_weights_do_not_matter(
    seed: int, unit: float, scale: float
) -> None:
    scene, made = planted(seed % 500, d=5, prompts=2), synthetic(seed % 500, 5)
    rng = np.random.default_rng(seed)
    real, held_out, own = (rng.permutation(n) for n in (16, 80, 10))
    images = scene.prompts[0]
    plain = ProbeGain.fit(*scene.arguments(), **made, l2=1.0, synthetic_weight=8.0)
    moved = ProbeGain.fit(
        unit * scene.real[real] + 3,
        scene.real_labels[real],
        unit * scene.validation[held_out] + 3,
        scene.validation_labels[held_out],
        synthetic_features=unit * made["synthetic_features"][own] + 3,
        synthetic_labels=made["synthetic_labels"][own],
        synthetic_weights=scale * made["synthetic_weights"][own],
        synthetic_weight=8.0,
        l2=1.0,
    )
    assert moved.loss == pytest.approx(plain.loss, rel=1e-9)
    np.testing.assert_allclose(
        moved.gains(unit * images + 3, 0), plain.gains(images, 0), rtol=1e-6, atol=1e-9
    )


def test_labels_may_be_words_and_each_image_may_have_its_own() -> None:
    scene = planted(14)
    names = np.array(["normal", "polyp"])
    probe = ProbeGain.fit(
        scene.real, names[scene.real_labels], scene.validation, names[scene.validation_labels], l2=1.0
    )
    numbers = ProbeGain.fit(*scene.arguments(), l2=1.0)
    images = scene.prompts[0]
    assert probe.classes == ("normal", "polyp")
    np.testing.assert_array_equal(probe.gains(images, "polyp"), numbers.gains(images, 1))
    mixed = probe.gains(images, ["normal", "polyp"] * 3)
    np.testing.assert_allclose(mixed[::2], probe.gains(images, "normal")[::2])
    np.testing.assert_allclose(mixed[1::2], probe.gains(images, "polyp")[1::2])


def test_what_makes_no_sense_is_refused() -> None:
    scene = planted(15)
    real, labels, held_out, truth = scene.arguments()
    probe = ProbeGain.fit(real, labels, held_out, truth, l2=1.0)
    with pytest.raises(ValueError, match="1 classes; two or more"):
        ProbeGain.fit(real, labels, held_out[:40], truth[:40])
    with pytest.raises(ValueError, match="class 1 has validation images but none to train on"):
        ProbeGain.fit(real[:8], labels[:8], held_out, truth)
    with pytest.raises(ValueError, match=r"real_labels: 7 is no class.*0, 1"):
        ProbeGain.fit(real, np.full(len(real), 7), held_out, truth)
    with pytest.raises(ValueError, match="label: 'polyp' is no class"):
        probe.gains(real, "polyp")
    with pytest.raises(ValueError, match="5 columns, the current set has 6"):
        probe.gains(real[:, :5], 0)
    with pytest.raises(ValueError, match="l2: -1 is not above 0"):
        ProbeGain.fit(real, labels, held_out, truth, l2=-1)
    with pytest.raises(ValueError, match=r"synthetic_weight: 0.0 is not"):
        ProbeGain.fit(real, labels, held_out, truth, synthetic_weight=0.0)
    with pytest.raises(ValueError, match="synthetic_labels: is missing"):
        probe.refit(synthetic_features=real)
    with pytest.raises(ValueError, match="synthetic_features: is missing"):
        probe.refit(synthetic_labels=labels)
    with pytest.raises(ValueError, match=r"synthetic_weights.*negative"):
        probe.refit(synthetic_features=real, synthetic_labels=labels, synthetic_weights=-labels)
    with pytest.raises(ValueError, match=r"validation_groups has|validation_groups: has"):
        ProbeGain.fit(real, labels, held_out, truth, validation_groups=[0])
    with pytest.raises(ValueError, match="weight: 0 is not above 0"):
        retrained_gain(probe, [real], 0, weight=0)
    with pytest.raises(ValueError, match=r"sets\[0\]: has no image"):
        retrained_gain(probe, [real[:0]], 0)
    with pytest.raises(ValueError, match="weight: -1 is not above 0"):
        probe.gains(real, 0, weight=-1)
    with pytest.raises(ValueError, match="NaN"):
        probe.gains(np.full((1, 6), np.nan), 0)
