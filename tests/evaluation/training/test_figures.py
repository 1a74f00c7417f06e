"""Figures against values worked out elsewhere."""

import pytest

from evaluation.estimate import Estimate
from evaluation.training.figures import share


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


def test_a_share_is_judged_like_every_other_proportion() -> None:
    assert share([True]) == Estimate.of_proportion(1, 1)
    assert share([True]).status == "unreliable"
