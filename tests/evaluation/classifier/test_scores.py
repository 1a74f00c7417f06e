"""The scores against scikit-learn's, and the calibration error against what it must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from evaluation import expected_calibration_error
from evaluation.classifier.scores import classifier_scores, confusion


def random_case(seed: int, n: int, k: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[truth] * rng.random()
    p = np.exp(logits)
    p = np.round(p, 1) + 0.1 if ties else p
    return truth, p / p.sum(axis=1, keepdims=True)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(8, 60), st.booleans(), st.booleans())
def test_every_score_is_scikit_learns(seed, k, n, ties, weighted):
    truth, p = random_case(seed, n, k, ties=ties)
    # whole weights, with 0 among them but never for a whole class
    w = np.random.default_rng(seed).integers(0, 4, size=n).astype(float) if weighted else np.ones(n)
    w[:k] = 1
    names = [f"c{i}" for i in range(k)]
    scores = {name: v[0] for name, v in classifier_scores(truth, p, classes=names, weights=w[None]).items()}
    said = p.argmax(axis=1)
    common = {"sample_weight": w, "average": "macro", "zero_division": 0}
    expected = {
        "accuracy": sk.accuracy_score(truth, said, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said, sample_weight=w),
        "macro_precision": sk.precision_score(truth, said, **common),
        "macro_recall": sk.recall_score(truth, said, **common),
        "macro_f1": sk.f1_score(truth, said, **common),
        "auroc": sk.roc_auc_score(truth, p[:, 1], sample_weight=w)
        if k == 2
        else np.mean([sk.roc_auc_score(truth == c, p[:, c], sample_weight=w) for c in range(k)]),
    }
    recalls = sk.recall_score(truth, said, sample_weight=w, average=None, zero_division=0)
    expected |= {f"recall:c{i}": recalls[i] for i in range(k)}
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-9), name
    np.testing.assert_allclose(
        confusion(truth, p, w[None])[0], sk.confusion_matrix(truth, said, sample_weight=w, labels=range(k))
    )


def test_auroc_of_several_classes_is_scikit_learns_one_against_the_rest():
    truth, p = random_case(3, 80, 4, ties=False)
    mine = classifier_scores(truth, p, classes="abcd")["auroc"][0]
    assert mine == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"))


def test_many_weightings_at_once_are_each_alone():
    truth, p = random_case(5, 30, 3, ties=True)
    w = np.random.default_rng(0).random((7, 30)) + 0.1
    together = classifier_scores(truth, p, classes="abc", weights=w)
    for row in range(7):
        alone = classifier_scores(truth, p, classes="abc", weights=w[row : row + 1])
        for name, values in alone.items():
            assert together[name][row] == pytest.approx(values[0])


def test_calibration_error_of_cases_worked_by_hand():
    # 10 bins' worth of confidences; in each, exactly that share is right: perfectly calibrated
    p, truth = [], []
    for confidence in (0.55, 0.65, 0.75, 0.85, 0.95):
        p += [[confidence, 1 - confidence]] * 100
        truth += [0] * round(100 * confidence) + [1] * round(100 * (1 - confidence))
    assert expected_calibration_error(p, truth) == pytest.approx(0, abs=1e-12)
    # always 99 % sure and right in 7 of 10: the error is the gap
    sure = np.tile([0.99, 0.01], (100, 1))
    assert expected_calibration_error(sure, np.repeat([0, 1], [70, 30])) == pytest.approx(0.29)
    # two bins, of 40 and 60 images, off by 0.1 and 0.2 in opposite directions: they must not cancel
    p = np.repeat([[0.6, 0.4], [0.8, 0.2]], [40, 60], axis=0)
    truth = np.repeat([0, 1, 0, 1], [28, 12, 36, 24])
    assert expected_calibration_error(p, truth) == pytest.approx(0.4 * 0.1 + 0.6 * 0.2)
    # one bin for all: the gaps cancel as far as they can
    assert expected_calibration_error(p, truth, bins=1) == pytest.approx(abs(0.64 - 0.72))


def test_a_class_without_images_leaves_only_what_is_still_defined():
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    scores = classifier_scores([0, 0], p, classes=("a", "b", "c"))
    assert set(scores) == {"accuracy", "ece", "recall:a"}
    assert scores["accuracy"][0] == 0.5
    assert classifier_scores(np.zeros(0, int), np.zeros((0, 2)), classes="ab") == {}


@pytest.mark.parametrize(
    ("truth", "p", "said"),
    [
        ([0, 1], [[0.5, 0.5], [0.9, 0.2]], "row 1"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.2]], "row 1"),
        ([0, 2], [[0.5, 0.5], [0.8, 0.2]], "class indices below 2"),
        ([0.0, 1.0], [[0.5, 0.5], [0.8, 0.2]], "class indices"),
        ([0], [[1.0]], "two or more classes"),
    ],
)
def test_bad_input_is_named(truth, p, said):
    with pytest.raises(ValueError, match=said):
        classifier_scores(truth, p, classes=("a", "b"))
