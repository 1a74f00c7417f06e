"""Choices become values: against scikit-learn, planted truths and the laws a preference obeys."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from evaluation.inference.agreement import cohen_kappa, fleiss_kappa, preference_kappa, rank_correlation
from promptopt.review.preference_model import PRIOR_SD, SHARED, Comparison, PreferenceModel
from promptopt.review.preferences import preference_values
from promptopt.review.records import Choice, ReviewError


def choice(number, left, right, side, rater="anna"):
    return Choice(number, rater, left, right, side, "confirmation", (0,), 1, "2026-01-01T00:00:00+00:00")


def draw(worths, count, rng):
    """Comparisons of random pairs by the Bradley-Terry law."""
    names = list(worths)
    found = []
    for _ in range(count):
        a, b = (names[int(i)] for i in rng.permutation(len(names))[:2])
        chance = 1 / (1 + math.exp(worths[b] - worths[a]))
        found.append(Comparison(a, b, float(rng.random() < chance)))
    return found


def test_without_slots_it_is_penalized_logistic_regression():
    rng = np.random.default_rng(0)
    comparisons = draw({"a": 1.5, "b": 0.0, "c": -1.0, "d": 0.3}, 60, rng)
    model = PreferenceModel(comparisons, slots={})
    design = np.zeros((len(comparisons), 4))
    for row, c in enumerate(comparisons):
        design[row, model.prompts.index(c.first)], design[row, model.prompts.index(c.second)] = 1, -1
    oracle = LogisticRegression(C=PRIOR_SD**2, fit_intercept=False, tol=1e-12, max_iter=10_000)
    oracle.fit(design, [c.first_won for c in comparisons])
    np.testing.assert_allclose(model.worths, oracle.coef_[0], atol=1e-5)
    best = model.value("a", reference="c")
    assert best.value == pytest.approx(oracle.coef_[0] @ _contrast(model, "a", "c"), abs=1e-5)
    assert best.status == "ok"
    assert best.low > 0


def _contrast(model, first, second):
    return np.array([(name == first) - (name == second) for name in model.prompts], dtype=float)


def test_intervals_hold_what_the_prior_says():
    # Worths from the prior and choices from the law: Bayes' intervals must then hold the truth as often as
    # they say, up to Laplace's approximation and 400 draws.
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        worths = dict(zip("abcde", rng.normal(0, PRIOR_SD, 5), strict=True))
        model = PreferenceModel(draw(worths, 30, rng), slots={})
        found = model.value("a", reference="b")
        held += found.low <= worths["a"] - worths["b"] <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_more_choices_narrow_the_interval_to_the_truth():
    rng = np.random.default_rng(2)
    worths = {"a": 1.0, "b": 0.0, "c": -0.5}
    few, many = (
        PreferenceModel(draw(worths, n, rng), slots={}).value("a", reference="b") for n in (30, 3000)
    )
    assert many.high - many.low < (few.high - few.low) / 3
    assert many.low < 1.0 < many.high


def test_slots_tell_of_prompts_that_nobody_has_seen():
    rng = np.random.default_rng(3)
    slots = {f"{c} {s}": {"color": c, "size": s} for c in ("red", "blue") for s in ("big", "small", "tiny")}
    worths = {name: 2.0 * ("red" in name) for name in slots if name != "red tiny"}
    model = PreferenceModel(draw(worths, 200, rng), slots=slots | {"red tiny": None})
    seen = model.value("red big", reference="blue big")
    unseen = model.value("red tiny", reference="blue big", slots=None)
    assert unseen.status == "undefined"
    fresh = PreferenceModel(draw(worths, 200, rng), slots={k: v for k, v in slots.items() if k in worths})
    guessed = fresh.value("red tiny", reference="blue big", slots=slots["red tiny"])
    assert guessed.status == "unreliable"
    assert guessed.value > 0.5
    assert guessed.high - guessed.low > seen.high - seen.low
    assert fresh.value("red tiny", reference="blue big", slots={"shape": "flat"}).status == "undefined"
    assert 0 < SHARED < 1


names = st.sampled_from("abcd")
pairs = st.tuples(names, names, st.sampled_from(["left", "right", "same"])).filter(lambda p: p[0] != p[1])


@settings(max_examples=40)
@given(st.lists(pairs, min_size=1, max_size=15))
def test_sides_do_not_matter_and_opposite_choices_give_opposite_values(found):
    other = {"left": "right", "right": "left", "same": "same"}
    told = preference_values([choice(i, *p) for i, p in enumerate(found)], reference="a")
    swapped = preference_values(
        [choice(i, b, a, other[s]) for i, (a, b, s) in enumerate(found)], reference="a"
    )
    opposed = preference_values(
        [choice(i, a, b, other[s]) for i, (a, b, s) in enumerate(found)], reference="a"
    )
    for row in told.prompts:
        same = next(p for p in swapped.prompts if p.label == row.label)
        against = next(p for p in opposed.prompts if p.label == row.label)
        assert (same.won, same.lost, same.same) == (row.won, row.lost, row.same)
        assert (against.won, against.lost) == (row.lost, row.won)
        if row.value.value is None:
            assert same.value.value is None
            continue
        assert same.value.value == pytest.approx(row.value.value, abs=1e-7)
        assert against.value.value == pytest.approx(-row.value.value, abs=1e-7)


def test_no_difference_is_half_a_choice_for_each():
    halves = PreferenceModel([Comparison("a", "b", 0.5)] * 2, slots={})
    split = PreferenceModel([Comparison("a", "b", 1.0), Comparison("a", "b", 0.0)], slots={})
    np.testing.assert_allclose(halves.worths, split.worths, atol=1e-9)
    np.testing.assert_allclose(halves.covariance, split.covariance, atol=1e-9)


def test_values_agreement_and_what_went_into_them():
    rng = np.random.default_rng(4)
    scores = {"a": 2.0, "b": 1.0, "c": 0.0, "d": -1.0, "e": -2.0}
    drawn = [c for rater in ("anna", "bert") for c in _choices(scores, 200, rng, rater)]
    found = preference_values(drawn, reference="c", scores=scores)
    assert [row.label for row in found.prompts] == list("abcde")
    assert found.with_score.value == 1.0
    assert found.agreement["anna", "bert"].value > 0.5
    assert found.left.low < 0.5 < found.left.high
    assert set(found.by_rater) == {"anna", "bert"}
    assert sum(row.won for row in found.prompts) == 400
    contrary = [choice(c.number, c.right, c.left, c.choice, "carl") for c in drawn[:200]]
    mixed = preference_values([*drawn[:200], *contrary], reference="c", scores=scores)
    assert mixed.agreement["anna", "carl"].value < -0.5
    assert mixed.with_score_by_rater["carl"].value == -1.0


def _choices(worths, count, rng, rater):
    return [
        choice(i, c.first, c.second, "left" if c.first_won else "right", rater)
        for i, c in enumerate(draw(worths, count, rng))
    ]


def test_always_left_shows():
    found = preference_values([choice(i, *"ab" if i % 2 else "ba", "left") for i in range(40)], reference="a")
    assert found.left.low > 0.9


def test_no_choices_are_refused():
    with pytest.raises(ReviewError, match="promptopt review prefer"):
        preference_values([], reference="a")
    with pytest.raises(ValueError, match="with itself"):
        PreferenceModel([Comparison("a", "a", 1.0)], slots={})


def test_fleiss_kappa_of_his_textbook_table():
    # 10 subjects, 14 raters, 5 categories; kappa 0.210 (Fleiss 1971's method, the table of many textbooks)
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    answers = [[kind for kind, count in enumerate(row) for _ in range(count)] for row in table]
    found = fleiss_kappa(answers)
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.low < 0.210 < found.high
    with pytest.raises(ValueError, match="same 2 or more raters"):
        fleiss_kappa([["a", "b"], ["a"]])


def test_cohen_kappa_from_its_definition():
    first = ["x"] * 25 + ["y"] * 25
    second = ["x"] * 20 + ["y"] * 5 + ["x"] * 10 + ["y"] * 15
    observed, expected = 35 / 50, 0.5 * 30 / 50 + 0.5 * 20 / 50
    assert cohen_kappa(first, second).value == pytest.approx((observed - expected) / (1 - expected))
    assert cohen_kappa(first, first).value == 1.0
    # which prompt of a pair comes first is arbitrary, so turning pairs round changes nothing
    one, two = [1, 1, 1, 1, 0, -1], [1, 1, 1, -1, 0, 0]
    turned = [[-v if i % 2 else v for i, v in enumerate(verdicts)] for verdicts in (one, two)]
    assert preference_kappa(one, two).value == pytest.approx(preference_kappa(*turned).value)
    assert preference_kappa([1] * 6, [1] * 6).value == 1.0
    assert preference_kappa([1] * 6, [-1] * 6).value == -1.0
    assert cohen_kappa(["x"] * 5, ["x"] * 5).status == "undefined"
    assert cohen_kappa(["x"], ["y"]).status == "undefined"
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa(["x"], [])


def test_rank_correlation_is_scipys_with_an_interval():
    rng = np.random.default_rng(5)
    first = rng.normal(size=30)
    second = first + rng.normal(size=30)
    found = rank_correlation(list(first), list(second))
    assert found.value == pytest.approx(spearmanr(first, second).statistic)
    assert -1 <= found.low < found.value < found.high <= 1
    assert found.status == "ok"
    equal = rank_correlation(range(20), range(20))
    assert (equal.value, equal.low, equal.status) == (1.0, None, "unreliable")
    assert rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]).status == "undefined"
    assert rank_correlation([1, 2, 3], [1, 2, 3]).status == "undefined"
