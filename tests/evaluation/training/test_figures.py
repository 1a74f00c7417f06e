"""Figures against values worked out elsewhere."""

import numpy as np
import pytest

from evaluation.training.figures import auroc, share


def test_share_has_wilsons_interval() -> None:
    # Newcombe (1998), Table I: 81 of 263
    estimate = share([True] * 81 + [False] * 182)
    assert estimate.value == pytest.approx(81 / 263)
    assert estimate.low == pytest.approx(0.2553, abs=1e-4)
    assert estimate.high == pytest.approx(0.3662, abs=1e-4)
    # ... and 0 of 20
    none = share([False] * 20)
    assert none.low == 0
    assert none.high == pytest.approx(0.1611, abs=1e-4)
    assert share([]).status == "undefined"


def test_auroc_agrees_with_scikit_learn_ties_included() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels = rng.random(80) < 0.4
    scores = (labels + rng.normal(0, 1, 80)).round(1)
    estimate = auroc(scores, labels)
    assert estimate.value == pytest.approx(roc_auc_score(labels, scores))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0.5 + (estimate.value or 0) / 2 < estimate.high + 0.5
    assert auroc(scores[labels], labels[labels]).status == "undefined"
