"""The 2025 scorer against the described steps written out, pair by pair, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.challenge import ChallengeError, gi2024, gi2025, table

D = 4


def features(
    seed: int, prompts: int, k: int = 10, real: int = 60
) -> tuple[np.ndarray, np.ndarray, dict[str, list[int]]]:
    rng = np.random.default_rng(seed)
    generated = rng.normal(size=(prompts * k, D)) + rng.normal(size=(prompts, D)).repeat(k, axis=0)
    mapping = {str(p): rng.choice(real, size=12, replace=False).tolist() for p in range(1, prompts + 1)}
    return generated, rng.normal(size=(real, D)) * 1.5, mapping


def described(
    generated: np.ndarray, real: np.ndarray, mapping: dict[str, list[int]], k: int = 10
) -> dict[str, float]:
    """The script's steps, one after the other, with a matrix root."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        root = scipy.linalg.sqrtm(s @ t).real
        return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * root))

    by_prompt = [generated[i : i + k] for i in range(0, len(generated), k)]
    fidelity, agreement, diversity, of_all, real_all = [], [], [], [], []
    for i in range(0, len(by_prompt) // 2, 2):
        a, b = by_prompt[i], by_prompt[i + 1]
        reference = real[mapping[str(i + 1)]]
        fidelity.append(1000 / (1 + (distance(a, reference) + distance(b, reference)) / 2))
        cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x in a for y in b]
        agreement.append(np.mean(cosines))
        for one in (a, b):
            unit = [x / np.linalg.norm(x) for x in one]
            gaps = [np.linalg.norm(unit[p] - unit[q]) for p in range(k) for q in range(p)]
            diversity.append(np.mean(gaps))
        of_all += [*a, *b]
        real_all += [*reference]
    fbd = distance(np.array(of_all), np.array(real_all))
    return {
        "fidelity": float(np.mean(fidelity)),
        "agreement": float(np.mean(agreement)),
        "diversity": float(np.mean(diversity)),
        "fbd": fbd,
    }


def numbers(score: gi2025.Gi2025Scores) -> dict[str, float]:
    return {name: getattr(score, name) for name in score.NUMBERS}


@pytest.mark.parametrize("prompts", [2, 3, 4, 6, 8, 20])
def test_equals_the_described_steps(prompts: int) -> None:
    generated, real, mapping = features(prompts, prompts)
    got = gi2025.scores(generated, real, mapping)
    assert numbers(got) == pytest.approx(described(generated, real, mapping), rel=1e-7)
    assert got.pairs == len(range(0, prompts // 2, 2))
    assert got.prompts == prompts


def test_rank_deficient_distances_agree_with_the_matrix_root_to_its_own_noise() -> None:
    rng = np.random.default_rng(0)
    generated, real = rng.normal(size=(40, 64)), rng.normal(size=(30, 64)) + 0.2
    mapping = {p: range(30) for p in range(1, 5)}
    got = gi2025.scores(generated, real, mapping)
    expected = described(generated, real, {str(p): list(range(30)) for p in mapping})
    assert numbers(got) == pytest.approx(expected, rel=1e-5)


def test_the_second_half_of_the_prompts_is_not_scored_unless_corrected() -> None:
    generated, real, mapping = features(1, 8)
    worse = generated.copy()
    worse[40:] = 50.0
    worse[40] = 51.0
    assert numbers(gi2025.scores(worse, real, mapping)) == numbers(gi2025.scores(generated, real, mapping))
    mended = gi2025.scores(generated, real, mapping, corrected=True)
    assert mended.pairs == 4
    assert (gi2025.scores(worse, real, mapping, corrected=True).diversity or 0) < (mended.diversity or 0)


def test_the_real_images_of_the_second_prompt_are_not_used_unless_corrected() -> None:
    generated, real, mapping = features(2, 4)
    other = {**mapping, "2": list(range(20))}
    assert gi2025.scores(generated, real, other) == gi2025.scores(generated, real, mapping)
    one, two = (gi2025.scores(generated, real, m, corrected=True) for m in (mapping, other))
    assert one.fidelity != two.fidelity


def test_corrected_by_hand() -> None:
    generated, real, mapping = features(3, 4)
    unit = generated / np.linalg.norm(generated, axis=1, keepdims=True)
    unit_real = real / np.linalg.norm(real, axis=1, keepdims=True)
    got = gi2025.scores(generated, real, mapping, corrected=True)
    # doubled prompts put all four into the script's half; each pair is then (A, A) against A's images
    twice = np.concatenate([np.tile(unit[10 * p : 10 * p + 10], (2, 1)) for p in range(4)] * 2)
    mapped = {str(2 * p + i): mapping[str(p + 1)] for p in range(4) for i in (1, 2)}
    mapped |= {str(int(key) + 8): rows for key, rows in mapped.items()}
    each = [
        1000 / x - 1
        for x in (
            described(
                np.concatenate([unit[10 * p : 10 * p + 10]] * 4), unit_real, {"1": mapping[str(p + 1)]}
            )["fidelity"]
            for p in range(4)
        )
    ]
    assert got.fidelity == pytest.approx(np.mean([1000 / (1 + (each[p] + each[p + 1]) / 2) for p in (0, 2)]))
    assert got.diversity == pytest.approx(described(twice, unit_real, mapped)["diversity"])


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0.1, 100))
def test_laws(seed: int, scale: float) -> None:
    generated, real, mapping = features(seed, 4)
    got = gi2025.scores(generated, real, mapping)
    rng = np.random.default_rng(seed)
    inside = np.concatenate([start + rng.permutation(10) for start in range(0, 40, 10)])
    assert numbers(gi2025.scores(generated[inside], real, mapping)) == pytest.approx(numbers(got), rel=1e-8)
    scaled = gi2025.scores(generated * scale, real * scale, mapping)
    assert scaled.agreement == pytest.approx(got.agreement, abs=1e-9)
    assert scaled.diversity == pytest.approx(got.diversity)
    assert scaled.fbd == pytest.approx((got.fbd or 0) * scale**2, rel=1e-6)
    mended = [
        gi2025.scores(x, y, mapping, corrected=True)
        for x, y in ((generated, real), (generated * scale, real * scale))
    ]
    assert numbers(mended[1]) == pytest.approx(numbers(mended[0]), rel=1e-6, abs=1e-9)
    assert 0 <= (got.fidelity or 0) <= 1000
    assert -1 <= (got.agreement or 0) <= 1
    assert 0 <= (got.diversity or 0) <= 2


def test_ids_lists_and_integer_keys_mean_the_same() -> None:
    generated, real, mapping = features(5, 4)
    names = [f"img{row}" for row in range(len(real))]
    by_name = {key: [names[row] for row in rows] for key, rows in mapping.items()}
    expected = gi2025.scores(generated, real, mapping)
    assert gi2025.scores(generated, real, by_name, real_ids=names) == expected
    assert gi2025.scores(generated, real, {int(k): v for k, v in mapping.items()}) == expected
    assert gi2025.scores(generated, real, list(mapping.values())) == expected


def test_published_form_and_card() -> None:
    generated, real, mapping = features(6, 4)
    got = gi2025.scores(generated, real, mapping)
    assert got.public() == {
        "fidelity": round(got.fidelity or 0, 2),
        "agreement": round(got.agreement or 0, 2),
        "diversity": round(got.diversity or 0, 2),
        "FBD": round(got.fbd or 0, 2),
    }
    assert "first half" in str(got.card)
    json.dumps(got.to_dict(), allow_nan=False)
    mended = gi2025.scores(generated, real, mapping, corrected=True)
    with pytest.raises(ChallengeError, match="one table"):
        table({"a": got, "b": mended})
    other = gi2024.frechet(np.eye(3), np.eye(3))
    with pytest.raises(ChallengeError, match="2024"):
        table({"a": got, "b": other})


def test_what_the_script_makes_nan_is_undefined() -> None:
    generated, real, mapping = features(7, 4)
    one_real = gi2025.scores(generated, real, {**mapping, "1": [3]})
    assert one_real.fidelity is None
    assert one_real.fbd is None
    assert one_real.agreement is not None
    assert "fewer than two" in one_real.undefined
    single = gi2025.scores(generated[::10], real, mapping, images_per_prompt=1)
    assert (single.fidelity, single.diversity) == (None, None)
    assert single.agreement is not None
    nothing = gi2025.scores(generated[:10], real, {"1": [0, 1]})
    assert (nothing.fidelity, nothing.agreement, nothing.pairs) == (None, None, 0)
    assert "no pair" in nothing.undefined
    mended = gi2025.scores(generated, real, {**mapping, "1": [3]}, corrected=True)
    assert mended.fidelity is not None
    assert "1 of 2 pairs" in mended.undefined


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_prompt": 9}, "40 images; 4 prompts in real_mapping with 9 images each make 36"),
        ({"images_per_prompt": 0}, "images_per_prompt is 0"),
        ({"real_mapping": {"0": [1], "1": [1], "2": [1], "3": [1]}}, "prompt 4 is missing .* counted from 1"),
        ({"real_mapping": {"one": [1]}}, "key 'one' is no prompt number"),
        ({"real_mapping": {"1": [1], 1: [2]}}, "occurs twice"),
        ({"real_mapping": {"1": [60], "2": [1], "3": [1], "4": [1]}}, r"names 60, which is not in the rows"),
        ({"real_ids": ["a"]}, "1 names for 60 rows"),
        (
            {
                "real_mapping": {"1": [1], "2": [1], "3": [1]},
                "corrected": True,
                "generated": np.ones((30, D)),
            },
            "no pairs",
        ),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    generated, real, mapping = features(8, 4)
    arguments = {"generated": generated, "real": real, "real_mapping": mapping, **change}
    with pytest.raises(ChallengeError, match=message):
        gi2025.scores(**arguments)  # type: ignore[arg-type]


def test_files_are_counted_and_named_as_the_script_asks(tmp_path: Path) -> None:
    for prompt in (1, 2):
        for image in range(1, 11):
            (tmp_path / f"prompt{prompt:04d}_img{image:04d}.png").touch()
    found = gi2025.list_images(tmp_path, prompts=2)
    assert (len(found), found[10].name) == (20, "prompt0002_img0001.png")
    with pytest.raises(ChallengeError, match=r"20 \.png files; 3 prompts with 10 images each make 30"):
        gi2025.list_images(tmp_path, prompts=3)
    found[3].rename(tmp_path / "prompt0001_img0099.png")
    with pytest.raises(ChallengeError, match=r"img0004\.png is missing .*img0099"):
        gi2025.list_images(tmp_path, prompts=2)
    with pytest.raises(ChallengeError, match="cannot be listed"):
        gi2025.list_images(tmp_path / "gone", prompts=2)
