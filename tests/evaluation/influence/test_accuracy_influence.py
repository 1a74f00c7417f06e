"""Synthetic-to-real accuracy: influence against leaving prompts out."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from evaluation.influence.accuracy_influence import leave_prompts_out, synthetic_probe
from evaluation.influence.probe_gain import ProbeGain
from tests.evaluation.influence.planted import planted


def sample(
    seed: int = 0, prompts: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Synthetic features, labels, prompts, and the validation images."""
    scene = planted(seed, d=8, prompts=prompts, real=60)
    others = scene.real[scene.real_labels == 1]
    x = np.concatenate([*scene.prompts, others])
    labels = np.repeat([0, 1], [6 * prompts, len(others)])
    names = np.concatenate([np.repeat(np.arange(prompts), 6), np.full(len(others), -1) - np.arange(60) % 2])
    return x, labels, names, scene.validation, scene.validation_labels


def test_it_is_a_probe_of_synthetic_images_alone() -> None:
    x, labels, _, held_out, truth = sample()
    probe = synthetic_probe(x, labels, held_out, truth, l2=2.0)
    mean, scale = held_out.mean(axis=0), held_out.std(axis=0)
    # scikit-learn's single vector for two classes is the difference of two opposite ones: half the penalty
    model = LogisticRegression(C=2 / 2.0, tol=1e-12, max_iter=10_000).fit((x - mean) / scale, labels)
    logs = model.predict_log_proba((held_out - mean) / scale)
    assert probe.loss == pytest.approx(-np.mean(logs[np.arange(len(logs)), truth]), rel=1e-6)
    assert probe.balanced_accuracy == pytest.approx(model.score((held_out - mean) / scale, truth))


def test_leaving_a_prompt_out_is_training_without_it() -> None:
    x, labels, names, held_out, truth = sample()
    probe = synthetic_probe(x, labels, held_out, truth, l2=2.0)
    for one in leave_prompts_out(probe, names)[:4]:
        kept = names != one.prompt
        brute = synthetic_probe(x[kept], labels[kept], held_out, truth, l2=2.0)
        assert one.loss == pytest.approx(brute.loss - probe.loss, rel=1e-7, abs=1e-12)
        assert one.balanced_accuracy == pytest.approx(brute.balanced_accuracy - probe.balanced_accuracy)


@pytest.mark.parametrize("total", [None, 100.0])
def test_influence_ranks_prompts_as_leaving_them_out(total: float | None) -> None:
    """With the rest taking over the weight, too."""
    x, labels, names, held_out, truth = sample()
    probe = synthetic_probe(x, labels, held_out, truth, synthetic_weight=total)
    changes = leave_prompts_out(probe, names)
    assert [one.prompt for one in changes] == [*range(30), -1, -2]
    own = changes[:30]
    assert spearmanr([one.predicted for one in own], [one.loss for one in own]).statistic > 0.95


def test_left_out_weight_goes_to_the_others_where_the_total_is_given() -> None:
    x, labels, names, held_out, truth = sample()
    gone = names == 0
    for total, expected in ((None, 174.0), (50.0, 50.0)):
        probe = synthetic_probe(x, labels, held_out, truth, synthetic_weight=total, l2=1.0)
        assert probe.without(gone).weights[labels[~gone] == 0].sum() == pytest.approx(expected)


def test_prompts_are_left_out_of_a_set_beside_real_images_too() -> None:
    scene = planted(3, prompts=4)
    x = np.concatenate(scene.prompts)
    labels = np.zeros(len(x), dtype=int)
    probe = ProbeGain.fit(*scene.arguments(), synthetic_features=x, synthetic_labels=labels, l2=1.0)
    one = leave_prompts_out(probe, ["all"] * len(x))[0]
    assert one.loss == pytest.approx(probe.refit().loss - probe.loss)


def test_what_makes_no_sense_is_refused() -> None:
    x, labels, _, held_out, truth = sample()
    probe = synthetic_probe(x, labels, held_out, truth, l2=1.0)
    with pytest.raises(ValueError, match="class 1 has validation images but none"):
        synthetic_probe(x[labels == 0], labels[labels == 0], held_out, truth)
    with pytest.raises(ValueError, match=r"prompts: has shape \(2,\)"):
        leave_prompts_out(probe, ["a", "b"])
    with pytest.raises(ValueError, match="without prompt 'only': class 0"):
        leave_prompts_out(probe, np.where(labels == 0, "only", "a"))
    scene = planted(1)
    with pytest.raises(ValueError, match="no synthetic image"):
        leave_prompts_out(ProbeGain.fit(*scene.arguments(), l2=1.0), [])
