"""The witness is the gradient of the mixture's MMD^2."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.influence import witness as module
from evaluation.influence.witness import Witness
from evaluation.metrics.mmd import median_bandwidth, mmd
from promptopt.portfolio.mixture import mixture_form

WIDTH = 1.6


def scene(seed: int, sizes: tuple[int, ...] = (5, 5, 5), d: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, d)) + rng.normal(size=d) for n in sizes], rng.normal(size=(9, d))


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.exp(-np.sum((a - b) ** 2) / (2 * WIDTH**2)))


def slow_mmd(prompts: list[np.ndarray], real: np.ndarray, w: np.ndarray) -> float:
    """Pair by pair; row s of every prompt is of seed s."""
    total = 0.0
    for (i, a), (j, b) in itertools.product(enumerate(prompts), repeat=2):
        pairs = [kernel(a[s], b[t]) for s in range(len(a)) for t in range(len(b)) if s != t]
        total += w[i] * w[j] * np.mean(pairs)
    for i, a in enumerate(prompts):
        total -= 2 * w[i] * np.mean([kernel(x, r) for x in a for r in real])
    return float(total + np.mean([kernel(a, b) for a, b in itertools.permutations(real, 2)]))


def test_mmd_is_that_of_the_definition_and_of_the_portfolio() -> None:
    prompts, real = scene(0)
    weights = np.array([0.5, 0.2, 0.3])
    witness = Witness.fit(prompts, real, weights=weights * 7, bandwidth=WIDTH)
    assert witness.mmd == pytest.approx(slow_mmd(prompts, real, weights), abs=1e-12)
    form = mixture_form(dict(zip("abc", prompts, strict=True)), real, bandwidth=WIDTH)
    assert witness.mmd == pytest.approx(form.mmd(weights), abs=1e-12)


def test_one_prompt_is_the_plain_mmd() -> None:
    (prompt,), real = scene(1, sizes=(7,))
    assert Witness.fit([prompt], real).mmd == pytest.approx(mmd(prompt, real).value, abs=1e-12)
    assert Witness.fit([prompt], real).bandwidth == median_bandwidth(real)


def test_directional_derivative_towards_a_prompt_outside_is_twice_the_difference_of_mean_witnesses() -> None:
    prompts, real = scene(2, sizes=(5, 5, 5, 5))
    weights, step = np.array([0.5, 0.2, 0.3]), 1e-4
    witness = Witness.fit(prompts[:3], real, weights=weights, bandwidth=WIDTH)
    values = witness.values(prompts[3], seeds=np.arange(5))
    towards = np.append(-weights, 1.0)
    plus, minus = (
        slow_mmd(prompts, real, np.append(weights, 0.0) + sign * step * towards) for sign in (1, -1)
    )
    derivative = (plus - minus) / (2 * step)
    assert 2 * (values.mean() - witness.mean) == pytest.approx(derivative, abs=1e-9)
    assert witness.gap(values) == pytest.approx(-derivative, abs=1e-9)


def test_a_step_of_frank_wolfe_lowers_mmd_and_the_gap_bounds_what_any_mixture_gains() -> None:
    prompts, real = scene(3, sizes=(40,) * 6)
    start = Witness.fit(prompts[:1], real, bandwidth=WIDTH)
    seeds = np.arange(40)
    gaps = [start.gap(start.values(own, seeds=seeds)) for own in prompts]
    best = int(np.argmax(gaps))
    assert gaps[best] > 0
    stepped = Witness.fit([prompts[0], prompts[best]], real, weights=[0.9, 0.1], bandwidth=WIDTH)
    assert stepped.mmd < start.mmd
    rng = np.random.default_rng(0)
    for _ in range(30):
        other = Witness.fit(prompts, real, weights=rng.dirichlet(np.ones(6) * 0.3), bandwidth=WIDTH)
        assert start.mmd - other.mmd <= gaps[best] + 1e-9


def test_prompts_may_have_different_numbers_of_images_and_seeds_of_their_own() -> None:
    prompts, real = scene(4, sizes=(4, 6))
    seeds = [["a", "b", "c", "d"], ["e", "f", "g", "h", "i", "j"]]
    witness = Witness.fit(prompts, real, weights=[0.3, 0.7], seeds=seeds, bandwidth=WIDTH)
    first = np.mean([kernel(prompts[0][0], y) for y in prompts[0][1:]])
    second = np.mean([kernel(prompts[0][0], y) for y in prompts[1]])
    reference = np.mean([kernel(prompts[0][0], r) for r in real])
    assert witness.own[0][0] == pytest.approx(0.3 * first + 0.7 * second - reference, abs=1e-12)
    assert [len(own) for own in witness.own] == [4, 6]


def test_leaving_an_image_s_seed_out_makes_its_witness_unbiased() -> None:
    rng = np.random.default_rng(5)
    with_self, without, truth = [], [], []
    for _ in range(300):
        own, real, fresh = rng.normal(size=(4, 2)), rng.normal(size=(5, 2)), rng.normal(size=(4, 2))
        witness = Witness.fit([own], real, bandwidth=WIDTH)
        with_self.append(witness.values(own).mean())
        without.append(witness.own[0].mean())
        truth.append(witness.values(fresh).mean())
    error = np.std(np.subtract(without, truth)) / np.sqrt(300)
    assert abs(np.mean(without) - np.mean(truth)) < 4 * error
    assert np.mean(with_self) - np.mean(truth) > 10 * error


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 100))
def test_order_translation_and_scale_of_the_weights_do_not_matter(seed: int, scale: float) -> None:
    prompts, real = scene(seed % 1000, sizes=(4, 5, 6))
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3))
    probe = rng.normal(size=(6, 3))
    seeds = [np.arange(n) for n in (4, 5, 6)]
    plain = Witness.fit(prompts, real, weights=weights, bandwidth=WIDTH)
    order = rng.permutation(3)
    rows = [rng.permutation(n) for n in (4, 5, 6)]
    moved = Witness.fit(
        [prompts[i][rows[i]] + 50 for i in order],
        rng.permutation(real) + 50,
        weights=scale * weights[order],
        seeds=[seeds[i][rows[i]] for i in order],
        bandwidth=WIDTH,
    )
    np.testing.assert_allclose(moved.values(probe + 50), plain.values(probe), atol=1e-10)
    assert moved.mmd == pytest.approx(plain.mmd, abs=1e-10)


def test_values_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, real = scene(6)
    probe = np.random.default_rng(6).normal(size=(10, 3))
    whole = Witness.fit(prompts, real, bandwidth=WIDTH).values(probe, seeds=np.arange(10))
    monkeypatch.setattr(module, "BLOCK", 3)
    np.testing.assert_allclose(
        Witness.fit(prompts, real, bandwidth=WIDTH).values(probe, seeds=np.arange(10)), whole, atol=1e-13
    )


def test_what_makes_no_sense_is_refused() -> None:
    prompts, real = scene(7)
    with pytest.raises(ValueError, match="no prompt"):
        Witness.fit([], real)
    with pytest.raises(ValueError, match=r"prompts\[1\].*two or more"):
        Witness.fit([prompts[0], prompts[1][:1]], real)
    with pytest.raises(ValueError, match=r"weights.*negative"):
        Witness.fit(prompts, real, weights=[1, -1, 1])
    with pytest.raises(ValueError, match="2 weights for 3"):
        Witness.fit(prompts, real, weights=[1, 1])
    with pytest.raises(ValueError, match=r"seeds\[0\].*twice"):
        Witness.fit(prompts, real, seeds=[[0, 0, 1, 2, 3]] * 3)
    with pytest.raises(ValueError, match="seeds of 1 prompts for 3"):
        Witness.fit(prompts, real, seeds=[range(5)])
    with pytest.raises(ValueError, match="bandwidth"):
        Witness.fit(prompts, real, bandwidth=0.0)
    with pytest.raises(ValueError, match="4 columns, the current set has 3"):
        Witness.fit(prompts, real).values(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="NaN"):
        Witness.fit(prompts, real).values([[np.nan, 0, 0]])
