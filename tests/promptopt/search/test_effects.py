"""Effects of words against planted truth and a textbook's formula."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.estimate import Estimate
from promptopt.run.trials import TrialRow
from promptopt.search.model.effects import slot_effects
from promptopt.search.model.noise import means_with_noise
from promptopt.search.model.variances import AnovaModel, Target
from promptopt.space import Candidate, PromptSpace, compile_template

SPACE = compile_template("{a0|a1|a2} {b0|b1|b2|b3} {c0|c1} end", {})
TRUTH = {"a": (1.0, 0.0, -1.0), "b": (0.5, 0.5, -0.5, -0.5), "c": (0.0, 0.0)}


def row(space: PromptSpace, number: int, options: tuple[int, ...], images: np.ndarray) -> TrialRow:
    choice = {slot.name: slot.options[o] for slot, o in zip(space.slots, options, strict=True)}
    per_image = {"score": tuple(float(v) for v in images)}
    return TrialRow(number, space.candidate(choice), choice, Estimate.of_mean(images), {}, per_image)


def planted(
    *, noise: float, count: int = 24, images: int = 16, seed: int = 0, pair: float = 0.0
) -> list[TrialRow]:
    """Prompts drawn without replacement; `pair` is added where a0 meets b0."""
    rng = np.random.default_rng(seed)
    all_options = [(a, b, c) for a in range(3) for b in range(4) for c in range(2)]
    shared = rng.normal(0, noise, images)
    rows = []
    for number, place in enumerate(rng.permutation(len(all_options))[:count]):
        a, b, c = all_options[int(place)]
        mean = 2 + TRUTH["a"][a] + TRUTH["b"][b] + TRUTH["c"][c] + pair * (a == 0 and b == 0)
        rows.append(row(SPACE, number, (a, b, c), mean + shared + rng.normal(0, noise, images)))
    return rows


def values(rows: list[TrialRow]) -> dict[str, Estimate]:
    return {e.option: e.effect for e in slot_effects(SPACE, rows).effects}


def test_planted_effects_are_found_and_sum_to_nothing_within_a_slot() -> None:
    found = slot_effects(SPACE, planted(noise=0.4))
    for effect in found.effects:
        truth = TRUTH[effect.option[0]][int(effect.option[1])]
        assert effect.effect.low is not None
        assert effect.effect.low <= truth <= effect.effect.high
        assert effect.effect.value == pytest.approx(truth, abs=0.2)
        assert effect.effect.status == "ok"
    for slot in {e.slot for e in found.effects}:
        assert sum(e.effect.value for e in found.of(slot)) == pytest.approx(0, abs=1e-6)
        assert [e.effect.value for e in found.of(slot)] == sorted(
            (e.effect.value for e in found.of(slot)), reverse=True
        )
    assert found.additive_share.low is not None
    assert found.additive_share.low > 0.8
    assert not found.interactions
    assert found.average.value == pytest.approx(2.0, abs=0.5)


def test_an_option_tried_by_poor_prompts_alone_is_not_blamed_for_them() -> None:
    # b3 was tried with a2, the worst of its slot, and nearly nothing else: its plain mean is the lowest
    rows = [
        r
        for r in planted(noise=0.1)
        if r.choice != {}
        and not (r.choice[SPACE.slots[1].name] == "b3" and r.choice[SPACE.slots[0].name] != "a2")
        and not (r.choice[SPACE.slots[1].name] == "b2" and r.choice[SPACE.slots[0].name] == "a2")
    ]
    found = values(rows)
    assert found["b3"].value == pytest.approx(found["b2"].value, abs=0.15)
    means = {
        option: np.mean([r.value for r in rows if option in r.choice.values()]) for option in ("b2", "b3")
    }
    assert means["b3"] < means["b2"] - 1


def test_a_pair_that_does_more_than_its_words_is_named_and_others_are_not() -> None:
    space = compile_template("{a0|a1|a2|a3} {b0|b1|b2|b3} {c0|c1|c2}", {})
    rng = np.random.default_rng(3)
    rows = []
    for number in range(48):
        a, b, c = number % 4, number // 4 % 4, number // 16
        images = 0.5 * a - 0.3 * b + 3.0 * (a == 1 and b == 2) + rng.normal(0, 0.5, 16)
        rows.append(row(space, number, (a, b, c), images))
    found = slot_effects(space, rows)
    assert [pair.options for pair in found.interactions] == [("a1", "b2")]
    pair = found.interactions[0]
    truth = 3.0 * (1 - 1 / 4) ** 2  # beyond the marginal effects of both words
    assert pair.beyond.low <= truth <= pair.beyond.high
    assert pair.prompts == 3
    assert pair.sentence.startswith("'a1' with 'b2': +1.")
    assert pair.sentence.endswith("beyond the sum of its words")


def test_what_was_never_or_rarely_tried_says_so() -> None:
    a, b = SPACE.slots[0].name, SPACE.slots[1].name
    rows = [r for r in planted(noise=0.3) if r.choice[a] != "a2"]
    rare = [r for r in rows if r.choice[b] == "b1"][:2]
    rows = [r for r in rows if r.choice[b] != "b1"] + rare
    found = {e.option: e for e in slot_effects(SPACE, rows).effects}
    assert found["a2"].effect == Estimate.undefined(0, found["a2"].effect.method)
    assert found["a2"].prompts == 0
    assert (found["b1"].prompts, found["b1"].effect.status) == (2, "unreliable")
    assert found["b1"].effect.n == 32  # images
    assert found["b0"].effect.status == "ok"


def test_an_option_that_was_always_there_is_compared_with_nothing() -> None:
    rows = [r for r in planted(noise=0.3) if r.choice[SPACE.slots[2].name] == "c0"]
    assert values(rows)["c0"].status == "unreliable"
    assert values(rows)["a0"].status == "ok"


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_prompts_give_no_reliable_effect(count: int) -> None:
    found = slot_effects(SPACE, planted(noise=0.3)[:count])
    assert {e.effect.status for e in found.effects} <= {"unreliable", "undefined"}
    assert not found.interactions
    assert found.prompts == count


def test_prompts_that_all_score_the_same_have_no_interval() -> None:
    rows = [row(SPACE, i, (i % 3, i % 4, i % 2), np.ones(8)) for i in range(12)]
    for effect in slot_effects(SPACE, rows).effects:
        if effect.prompts:
            assert (effect.effect.value, effect.effect.low, effect.effect.status) == (0.0, None, "unreliable")


def test_noiseless_scores_that_differ_are_no_error() -> None:
    rows = [row(SPACE, i, (i % 3, i % 4, i % 2), np.full(8, float(i % 3))) for i in range(12)]
    assert values(rows)["a2"].value == pytest.approx(1.0, abs=0.15)


def test_a_space_with_one_slot_has_effects_and_no_pairs() -> None:
    space = compile_template("{a0|a1|a2}", {})
    rng = np.random.default_rng(0)
    found = slot_effects(space, [row(space, i, (i,), i + rng.normal(0, 0.2, 16)) for i in range(3)])
    assert found.pairs_tested == 0
    assert [round(e.effect.value) for e in found.effects] == [-1, 0, 1]


def test_a_space_without_a_choice_has_no_effects() -> None:
    space = compile_template("a square", {})
    found = slot_effects(space, [row(space, 0, (), np.arange(8.0))])
    assert (found.effects, found.interactions, found.prompts) == ((), (), 1)
    assert found.average.value == pytest.approx(3.5)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([0.0, 1e-6, 1.0, 1e4]))
def test_whatever_was_measured_the_effects_are_estimates(seed: int, count: int, noise: float) -> None:
    """Any number of images each, any noise, equal and wildly different scores: no NaN, no exception."""
    rng = np.random.default_rng(seed)
    space = compile_template("{a0|a1|a2} {b0|b1}", {})
    rows = []
    for number in range(count):
        options = (int(rng.integers(3)), int(rng.integers(2)))
        images = rng.choice([0.0, 1.0, -50.0]) + rng.normal(0, noise, int(rng.choice([1, 2, 8, 16])))
        rows.append(row(space, number, options, images))
    found = slot_effects(space, rows)
    for effect in found.effects:
        assert (effect.effect.status == "undefined") == (effect.prompts == 0)


def test_repeated_prompts_and_rows_without_images_are_passed_over() -> None:
    rows = planted(noise=0.3)
    more = [
        replace(rows[0], number=99, duplicate_of=0),
        replace(rows[1], number=98, candidate=Candidate("another"), per_image={}),
    ]
    assert slot_effects(SPACE, [*rows, *more]) == slot_effects(SPACE, rows)


def test_the_order_of_the_trials_hardly_matters_and_a_second_call_is_equal() -> None:
    rows = planted(noise=0.5)
    first, again, other = (
        slot_effects(SPACE, rows),
        slot_effects(SPACE, rows),
        slot_effects(SPACE, rows[::-1]),
    )
    assert first == again
    for a, b in zip(first.effects, other.effects, strict=True):
        assert a.effect.value == pytest.approx(b.effect.value, abs=1e-3)


def test_a_foreign_trial_is_refused_by_name() -> None:
    rows = planted(noise=0.5)
    rows[3].choice[SPACE.slots[0].name] = "zebra"  # type: ignore[index]
    with pytest.raises(ValueError, match=r"trial 3.*zebra"):
        slot_effects(SPACE, rows)
    with pytest.raises(ValueError, match="level"):
        slot_effects(SPACE, [], level=1.5)


def test_a_shared_seed_does_not_pass_for_an_effect() -> None:
    """Later seeds are lucky for every prompt, and prompts with a0 race on more often. No prompt is better."""
    rng = np.random.default_rng(1)
    luck = np.concatenate([np.zeros(8), np.full(24, 2.0)])
    rows = []
    for number in range(24):
        a, b, c = number % 3, number // 3 % 4, number // 12
        length = 32 if a == 0 or number % 4 == 3 else 8
        images = luck[:length] + rng.normal(0, 0.5, length)
        rows.append(row(SPACE, number, (a, b, c), images))
    plain = {a: np.mean([r.value for r in rows if a in r.choice.values()]) for a in ("a0", "a1", "a2")}
    assert plain["a0"] > max(plain["a1"], plain["a2"]) + 0.8
    effect = values(rows)["a0"]
    assert abs(effect.value) < 0.3
    assert effect.low < 0 < effect.high


def test_means_are_those_of_least_squares_with_seeds_as_a_factor() -> None:
    """Oracle: prompt + seed by ordinary least squares, the limit where seeds differ widely."""
    rng = np.random.default_rng(4)
    counts = [16, 8, 32, 8, 16, 32]
    seeds = rng.normal(0, 30, 32)
    images = [i + seeds[:n] + rng.normal(0, 1, n) for i, n in enumerate(counts)]
    codes = np.arange(6)[:, None]  # no two share an option
    means, covariance = means_with_noise(images, codes)
    design, y = [], []
    for prompt, of_prompt in enumerate(images):
        for seed, value in enumerate(of_prompt):
            design.append([*np.eye(6)[prompt], *np.eye(32)[seed]])
            y.append(value)
    oracle = np.linalg.lstsq(np.array(design), np.array(y), rcond=None)[0][:6]
    np.testing.assert_allclose(means - means.mean(), oracle - oracle.mean(), atol=0.15)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_the_posterior_is_that_of_conjugate_regression_when_variances_are_known() -> None:
    """Oracle: the closed form of Bayesian regression on indicator columns with the same normal prior."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, (3, 4), size=(30, 2))
    y = rng.normal(0, 1, 30) + codes[:, 0]
    noise = 0.1 * np.eye(30)
    model = AnovaModel(y, codes, (3, 4), noise)
    log, weights = model._draws(1, np.random.default_rng(0))
    found = model.posterior([Target((0,), (o,)) for o in range(3)], draws=1, seed=0)
    assert weights.tolist() == [1.0]
    v = np.exp(log[0]) * y.var()
    blocks, prior = [np.ones((30, 1))], [1e4 * y.var()]
    for slot, m in ((0, 3), (1, 4)):
        blocks.append(np.eye(m)[codes[:, slot]])
    pair = np.einsum("ia,ib->iab", blocks[1], blocks[2]).reshape(30, -1)
    x = np.hstack([*blocks, pair])

    def centered(m: int) -> np.ndarray:
        return (np.eye(m) - 1 / m) * m / (m - 1)

    from scipy.linalg import block_diag

    cov = block_diag(
        prior[0], v[0] * centered(3), v[1] * centered(4), v[2] * np.kron(centered(3), centered(4))
    )
    gain = cov @ x.T @ np.linalg.inv(x @ cov @ x.T + noise + v[3] * np.eye(30))
    mean = gain @ (y - y.mean())
    spread = np.sqrt(np.diag(cov - gain @ x @ cov))
    np.testing.assert_allclose(found.means[0], mean[1:4], atol=1e-4)
    np.testing.assert_allclose(found.deviations[0], spread[1:4], rtol=1e-3)


@settings(max_examples=6)
@given(st.integers(0, 2**31), st.floats(0.1, 100))
def test_effects_scale_with_the_scores(seed: int, factor: float) -> None:
    rows = planted(noise=0.5, count=10, images=4, seed=seed)
    scaled = [
        replace(r, per_image={"score": tuple(7.0 + factor * v for v in r.per_image["score"])}) for r in rows
    ]
    for a, b in zip(slot_effects(SPACE, rows).effects, slot_effects(SPACE, scaled).effects, strict=True):
        assert (a.prompts, a.effect.status) == (b.prompts, b.effect.status)
        if a.effect.value is not None:
            assert b.effect.value == pytest.approx(factor * a.effect.value, rel=0.01, abs=0.01 * factor)


@pytest.mark.slow
def test_hundreds_of_prompts_take_seconds() -> None:
    space = compile_template(
        " ".join("{" + "|".join(f"{s}{o}" for o in range(6)) + "}" for s in "uvwxyz"), {}
    )
    rng = np.random.default_rng(0)
    rows = [
        row(space, i, tuple(int(v) for v in rng.integers(0, 6, 6)), rng.normal(0, 1, 8)) for i in range(600)
    ]
    begun = time.process_time()
    found = slot_effects(space, rows)
    assert time.process_time() - begun < 30
    assert (found.prompts, found.prompts_tried) == (400, len({one.candidate for one in rows}))
