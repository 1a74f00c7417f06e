"""The 2024 scorer against the described steps written out, its published oddities, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluation import Estimate, frechet_distance
from evaluation.challenge import ChallengeError, ChallengeScore, gi2024, table


def softmax(seed: int, n: int, classes: int = 6, *, sharp: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(n, classes)) * sharp
    rows = np.exp(logits)
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def described_frechet(real: np.ndarray, generated: np.ndarray) -> float:
    s, t = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(s.dot(t)))
    return float(
        np.square(real.mean(0) - generated.mean(0)).sum() + np.trace(s) + np.trace(t) - 2 * np.trace(root)
    )


def described_score(rows: np.ndarray, splits: int) -> list[float]:
    size, out = len(rows) // splits, []
    for group in range(splits):
        part = rows[group * size :][:size]
        marginal = np.mean(part, axis=0)
        terms = [np.sum(p * (np.log(p + 1e-16) - np.log(marginal + 1e-16))) for p in part]
        out.append(float(np.exp(np.mean(terms))))
    return out


@pytest.mark.parametrize("sharp", [0.5, 2.0, 5.0])
def test_frechet_is_the_described_one_where_sqrtm_is_sound(sharp: float) -> None:
    real, generated = softmax(1, 200, sharp=sharp), softmax(2, 150, sharp=sharp)
    got = gi2024.frechet(real, generated)
    assert got.value == pytest.approx(described_frechet(real, generated), rel=1e-6)
    assert (got.n_real, got.n_generated, got.undefined) == (200, 150, "")


def test_more_classes_than_images_stays_finite_and_near_a_good_sqrtm() -> None:
    real, generated = softmax(3, 40, 120, sharp=3.0), softmax(4, 30, 120, sharp=3.0)
    got = gi2024.frechet(real, generated).value
    assert got is not None
    # the best that a matrix root of a singular product can be asked for: eigenvalues, their noise cut off
    s, t = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    values = np.sort(np.linalg.eigvals(s @ t).real)[-29:]
    shift = np.square(real.mean(0) - generated.mean(0)).sum()
    expected = shift + np.trace(s) + np.trace(t) - 2 * np.sqrt(np.maximum(values, 0)).sum()
    assert got == pytest.approx(expected, rel=1e-7)


def test_means_are_single_precision_unless_corrected() -> None:
    base = softmax(5, 3000, 3, sharp=0.01)
    shifted = base[::-1] + np.float32(0)  # the same rows: equal moments, but for float32's summing order
    faithful, mended = gi2024.frechet(base, shifted), gi2024.frechet(base, shifted, corrected=True)
    real64 = base.astype(np.float64)
    assert mended.value == pytest.approx(0, abs=1e-15)
    shift = float(np.sum((base.mean(0) - shifted.mean(0)) ** 2))
    assert faithful.value == pytest.approx(shift, abs=1e-15)
    assert mended.value == pytest.approx(frechet_distance(real64, real64).value, abs=1e-15)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(2, 40), st.floats(0.1, 30))
def test_a_frechet_distance_on_a_simplex_is_at_most_two(seed: int, n: int, m: int, sharp: float) -> None:
    real, generated = softmax(seed, n, sharp=sharp), softmax(seed + 1, m, sharp=sharp)
    value = gi2024.frechet(real, generated).value
    assert value is not None
    assert 0 <= value <= 2 * (n / (n - 1) + m / (m - 1)) / 2 + 1e-6  # ddof 1 adds its n / (n - 1)
    order = np.random.default_rng(seed).permutation(n)
    assert gi2024.frechet(real[order], generated).value == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert gi2024.frechet(generated, real).value == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_two_certain_classes_are_two_apart() -> None:
    a, b = np.tile([1.0, 0.0], (5, 1)), np.tile([0.0, 1.0], (5, 1))
    assert gi2024.frechet(a, b).value == pytest.approx(2)


def test_one_image_has_no_covariance() -> None:
    got = gi2024.frechet(softmax(0, 1), softmax(1, 5))
    assert got.value is None
    assert "NaN" in got.undefined


@pytest.mark.parametrize(("n", "splits"), [(100, 10), (57, 10), (40, 4)])
def test_inception_score_is_the_described_one(n: int, splits: int) -> None:
    rows = softmax(n, n, sharp=3.0)
    got = gi2024.inception_score(rows, splits=splits)
    expected = described_score(rows.astype(np.float64), splits)
    assert got.groups == pytest.approx(expected, rel=1e-5)
    assert got.average == pytest.approx(np.mean(expected), rel=1e-5)
    assert got.std == pytest.approx(np.std(expected), rel=1e-3)
    assert got.median == pytest.approx(np.median(expected), rel=1e-5)


@pytest.mark.parametrize("n", [10, 13, 19])
def test_ten_to_nineteen_images_score_exactly_one(n: int) -> None:
    got = gi2024.inception_score(softmax(n, n, sharp=4.0))
    assert got.groups == (1.0,) * 10
    assert (got.average, got.std, got.median, got.n) == (1.0, 0.0, 1.0, n)


@pytest.mark.parametrize("n", [1, 9])
def test_fewer_than_ten_images_are_undefined_not_nan(n: int) -> None:
    got = gi2024.inception_score(softmax(n, n))
    assert (got.average, got.std, got.median, got.groups) == (None, None, None, ())
    assert "NaN" in got.undefined


def test_order_between_groups_counts_and_within_a_group_does_not() -> None:
    by_class = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    whole = gi2024.inception_score(by_class, splits=4)
    assert whole.average == pytest.approx(1)  # each group shows one class
    mixed = by_class[np.random.default_rng(0).permutation(100)]
    assert (gi2024.inception_score(mixed, splits=4).average or 0) > 3
    mended = gi2024.inception_score(by_class, splits=4, corrected=True)
    assert (mended.average or 0) > 3
    rows = softmax(8, 60, sharp=3.0)
    rng = np.random.default_rng(1)
    inside = np.concatenate([start + rng.permutation(6) for start in range(0, 60, 6)])
    assert gi2024.inception_score(rows[inside]).groups == pytest.approx(
        gi2024.inception_score(rows).groups, rel=1e-5
    )


def test_the_tail_is_dropped_unless_corrected() -> None:
    rows = softmax(9, 57, sharp=3.0)
    other_tail = np.concatenate([rows[:50], softmax(10, 7, sharp=9.0)])
    assert gi2024.inception_score(other_tail).groups == gi2024.inception_score(rows).groups
    assert (
        gi2024.inception_score(other_tail, corrected=True).groups
        != gi2024.inception_score(rows, corrected=True).groups
    )


@pytest.mark.parametrize("shape", [(512, 512, 3), (576, 720, 3), (64, 80, 3), (40, 50), (30, 30, 4)])
def test_preprocess_refills_and_does_not_resize(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    got = gi2024.preprocess(image)
    assert (got.shape, got.dtype) == ((299, 299, 3), np.float32)
    flat = image.ravel().tolist()
    positions = [0, 298 * 3, 299 * 3, 100_000, 268_202]
    assert got.ravel()[positions].tolist() == pytest.approx(
        [flat[i % len(flat)] / 127.5 - 1 for i in positions], abs=1e-6
    )
    assert np.array_equal(got, gi2024.preprocess(Image.fromarray(image)))


def test_only_the_top_of_a_large_image_counts_unless_corrected() -> None:
    image = np.random.default_rng(0).integers(0, 256, size=(512, 512, 3), dtype=np.uint8)
    bottom_gone = image.copy()
    bottom_gone[176:] = 0  # the top 34 % is 299 * 299 / 512 = 174.6 rows
    assert np.array_equal(gi2024.preprocess(image), gi2024.preprocess(bottom_gone))
    mended = [gi2024.preprocess(x, corrected=True) for x in (image, bottom_gone)]
    assert np.abs(mended[1][200:] + 1).max() < 1e-6
    assert np.abs(mended[0] - mended[1]).max() > 0.5
    flat = gi2024.preprocess(np.full((60, 90), 51, np.uint8), corrected=True)
    assert flat == pytest.approx(51 / 127.5 - 1)
    assert mended[0].min() >= -1
    assert mended[0].max() <= 1


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    palette = image.quantize(8)
    assert np.array_equal(gi2024.preprocess(palette), gi2024.preprocess(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("image", "corrected"),
    [
        (np.zeros((0, 3, 3)), False),
        (np.array(["x"]), False),
        (np.zeros((4, 4, 3)), True),
        (np.zeros((4, 4, 2), np.uint8), True),
    ],
)
def test_preprocess_refuses_what_is_no_image(image: np.ndarray, corrected: bool) -> None:
    with pytest.raises(ChallengeError, match="shape"):
        gi2024.preprocess(image, corrected=corrected)


def test_files_are_found_as_the_script_finds_them(tmp_path: Path) -> None:
    names = ["b.jpg", "a.png", "c.PNG", "notajpg", "d.jpeg", "e.gif", "f.tiff"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "g.png").touch()
    found = [path.name for path in gi2024.list_images(tmp_path)]
    assert found == ["a.png", "b.jpg", "d.jpeg", "notajpg"]
    assert [p.name for p in gi2024.list_images(tmp_path, corrected=True)] == [
        "a.png",
        "b.jpg",
        "c.PNG",
        "d.jpeg",
    ]
    assert sorted(p.name for p in gi2024.list_images(tmp_path, order="listing")) == found
    (tmp_path / "empty").mkdir()
    with pytest.raises(ChallengeError, match="no name ends in png"):
        gi2024.list_images(tmp_path / "empty")
    with pytest.raises(ChallengeError, match="cannot be listed"):
        gi2024.list_images(tmp_path / "gone")


def test_logits_and_other_nonsense_are_refused() -> None:
    good = softmax(0, 5)
    with pytest.raises(ChallengeError, match=r"softmax_generated: row 2 sums to"):
        gi2024.frechet(good, np.where(np.arange(5)[:, None] == 2, 3.0, good))
    with pytest.raises(ValueError, match="row 1 holds a NaN"):
        gi2024.inception_score(np.where(np.arange(5)[:, None] == 1, np.nan, good))
    with pytest.raises(ValueError, match="same encoder"):
        gi2024.frechet(good, softmax(0, 5, 7))
    with pytest.raises(ValueError, match="splits is 0"):
        gi2024.inception_score(good, splits=0)


def test_a_score_is_no_estimate_and_shares_no_table_with_one() -> None:
    one, two = gi2024.frechet(softmax(0, 9), softmax(1, 9)), gi2024.frechet(softmax(0, 9), softmax(2, 9))
    assert isinstance(one, ChallengeScore)
    assert not isinstance(one, Estimate)
    with pytest.raises(ValueError, match="an Estimate has the keys"):
        Estimate.from_json(json.loads(json.dumps(one.to_dict())))
    shown = table({"ours": one, "theirs": two})
    assert f"| ours | {one.value:.6f} |" in shown
    assert "no FID" in shown
    real_fid: object = frechet_distance(softmax(0, 9), softmax(1, 9))
    with pytest.raises(ChallengeError, match="Estimate is no challenge score"):
        table({"ours": one, "real": real_fid})  # type: ignore[dict-item]
    with pytest.raises(ChallengeError, match="corrected=True"):
        table({"ours": one, "mended": gi2024.frechet(softmax(0, 9), softmax(1, 9), corrected=True)})
    with pytest.raises(ChallengeError, match="one table"):
        table({"ours": one, "is": gi2024.inception_score(softmax(0, 20))})
    with pytest.raises(ChallengeError, match="one or more"):
        table({})
    with pytest.raises(TypeError):
        assert one < two  # type: ignore[operator]
