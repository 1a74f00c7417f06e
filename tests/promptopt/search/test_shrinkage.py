"""What confirmed prompts are worth: intervals that hold the truth, and less error than fresh scores have."""

import numpy as np
import pytest

from evaluation.estimate import Estimate
from promptopt.search.model.shrinkage import shrink


def planted(seed: int, *, sd: float, noise: float, shift: float) -> tuple[np.ndarray, list, list]:
    """True values, per-image scores and predictions that are off by `sd` each and by `shift` together."""
    rng = np.random.default_rng([seed, 8])
    predicted = rng.normal(size=5)
    truth = predicted + sd * rng.normal(size=5)
    shared = rng.normal(size=32)  # of the baseline's image of each seed
    images = truth[:, None] + noise * (shared + rng.normal(size=(5, 32)))
    return truth, list(images), [(float(p + shift), sd) for p in predicted]


def test_they_hold_the_truth_and_err_less_also_where_all_predictions_are_off_together() -> None:
    held, errors = [], []
    for seed in range(400):
        truth, images, predicted = planted(seed, sd=0.5, noise=2.0, shift=3.0)
        fresh = [Estimate.of_mean(row) for row in images]
        worth = shrink(fresh, images, predicted)
        held += [one.low <= t <= one.high for one, t in zip(worth, truth, strict=True)]
        leads = [np.array([one.value for one in ones]) for ones in (fresh, worth)]
        errors.append([np.var(lead - truth) for lead in leads])
    assert 0.93 < np.mean(held) < 0.97
    plain, shrunken = np.mean(errors, axis=0)
    assert shrunken < 0.8 * plain


def test_the_best_fresh_score_is_brought_down() -> None:
    optimism = []
    for seed in range(400):
        truth, images, predicted = planted(seed, sd=0.4, noise=3.0, shift=0.0)
        fresh = [Estimate.of_mean(row) for row in images]
        first = int(np.argmax([one.value for one in fresh]))
        worth = shrink(fresh, images, predicted)[first]
        assert fresh[first].value is not None
        assert worth.value is not None
        optimism.append([fresh[first].value - truth[first], worth.value - truth[first]])
    plain, shrunken = np.mean(optimism, axis=0)
    assert plain > 0.25
    assert abs(shrunken) < 0.1


def test_equal_precision_meets_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=64)
    noise -= noise.mean()
    images = [4 + noise, 2 - noise]  # own part: +-1 +- noise
    sd = float(noise.std(ddof=1) / 8)
    first, second = shrink([Estimate.of_mean(i) for i in images], images, [(0.0, sd), (0.0, sd)])
    assert first.value == pytest.approx(3.5)  # halfway between the lead seen, 1, and the one predicted, 0
    assert second.value == pytest.approx(2.5)


def test_without_predictions_to_compare_fresh_scores_stand() -> None:
    images = [np.arange(8.0), np.ones(8), np.arange(8.0) ** 2]
    fresh = [Estimate.of_mean(i) for i in images]
    for predicted in ([None] * 3, [None, (1.0, 0.5), None], [(1.0, 0.0), (2.0, 0.0), None]):
        worth = shrink(fresh, images, predicted)
        assert [one.value for one in worth] == [one.value for one in fresh]
        assert {one.method for one in worth} == {"fresh score alone"}
