"""Planted copies are found, unseen images are not called copies; the numbers are those of a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import memorization

D = 12


def images(seed: int, n: int, d: int = D) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def slow(
    generated: np.ndarray, training: np.ndarray, held_out: np.ndarray, groups: list[int], cosine: bool
) -> tuple[list[float], list[float]]:
    """Ratios of the generated and of the held-out images, one distance at a time."""

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        if cosine:
            return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        return float(np.linalg.norm(a - b))

    made = [min(gap(g, t) for t in training) / min(gap(g, h) for h in held_out) for g in generated]
    null = [
        min(gap(h, t) for t in training)
        / min(gap(h, o) for o, other in zip(held_out, groups, strict=True) if other != group)
        for h, group in zip(held_out, groups, strict=True)
    ]
    return made, null


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_equals_the_plain_loop(distance: str) -> None:
    generated, training, held_out = images(0, 9), images(1, 20), images(2, 15)
    groups = [i // 3 for i in range(15)]
    got = memorization(generated, training, held_out, groups=groups, distance=distance, quantile=0.2)  # type: ignore[arg-type]
    made, null = slow(generated, training, held_out, groups, distance == "cosine")
    assert got.ratio == pytest.approx(made)
    assert got.null_ratio == pytest.approx(null)
    expected = [(1 + sum(x <= r for x in null)) / 16 for r in made]
    assert got.p_value == pytest.approx(expected)
    assert sorted(got.copies) == [i for i, p in enumerate(expected) if p <= 0.2]
    assert got.share.value == pytest.approx(len(got.copies) / 9)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_planted_copies_are_found_and_named(distance: str) -> None:
    training, held_out = images(1, 150), images(2, 120)
    rng = np.random.default_rng(3)
    generated = images(4, 40)
    planted = {5: 17, 11: 80, 39: 149}
    for row, source in planted.items():
        generated[row] = training[source] + rng.normal(size=D) * 0.02
    generated[20] = training[60]  # to the last bit
    planted[20] = 60
    got = memorization(generated, training, held_out, distance=distance, pairs=6)  # type: ignore[arg-type]
    assert set(planted) <= set(got.copies.tolist())
    assert got.copies[0] == 20
    assert {row: int(got.nearest[row]) for row in planted} == planted
    assert [pair.generated for pair in got.closest][:1] == [20]
    assert len(got.closest) == 6
    assert [pair.copy for pair in got.closest[:4]] == [True] * 4
    assert [p.ratio for p in got.closest] == sorted(p.ratio for p in got.closest)
    assert got.share.value is not None
    assert got.threshold is not None
    assert (got.ratio[got.copies] < got.threshold).all()


def test_false_alarms_stay_near_the_quantile() -> None:
    flagged = total = 0
    for seed in range(30):
        pool = images(100 + seed, 100 + 99 + 100, 6)
        got = memorization(pool[:100], pool[100:199], pool[199:], quantile=0.05)
        flagged += len(got.copies)
        total += 100
    # 150 expected of 3,000; images of one run share their sets, so the spread is wider than binomial
    assert 0.02 < flagged / total < 0.07


def test_ungrouped_duplicates_in_the_held_out_set_make_false_alarms() -> None:
    training, single = images(1, 100), images(2, 60)
    held_out = np.concatenate([single, single + images(3, 60) * 0.01])
    groups = [*range(60), *range(60)]
    fresh = images(4, 400)
    loose = memorization(fresh, training, held_out, quantile=0.05)
    grouped = memorization(fresh, training, held_out, groups=groups, quantile=0.05)
    assert len(loose.copies) > 3 * len(grouped.copies)


def test_the_nearest_view_counts() -> None:
    training, held_out = images(1, 120), images(2, 110)
    turned = np.roll(training, 3, axis=1)  # stands for a mirrored image
    generated = turned[[7, 50]] + 0.001
    blind = memorization(generated, training, held_out)
    assert len(blind.copies) == 0
    seeing = memorization(
        generated, np.stack([training, turned]), np.stack([held_out, np.roll(held_out, 3, axis=1)])
    )
    assert seeing.copies.tolist() in ([0, 1], [1, 0])
    assert seeing.nearest.tolist() == [7, 50]


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0.01, 1000), st.sampled_from(["cosine", "euclidean"]))
def test_laws(seed: int, scale: float, distance: str) -> None:
    rng = np.random.default_rng(seed)
    generated, training, held_out = (
        rng.normal(size=(8, 4)),
        rng.normal(size=(11, 4)),
        rng.normal(size=(21, 4)),
    )
    settings_ = {"distance": distance, "quantile": 0.1}
    got = memorization(generated, training, held_out, **settings_)  # type: ignore[arg-type]
    larger = memorization(generated * scale, training * scale, held_out * scale, **settings_)  # type: ignore[arg-type]
    assert larger.ratio == pytest.approx(got.ratio, rel=1e-6)
    order = rng.permutation(8)
    shuffled = memorization(generated[order], training, held_out, **settings_)  # type: ignore[arg-type]
    assert shuffled.ratio == pytest.approx(got.ratio[order])
    assert np.array_equal(shuffled.nearest, got.nearest[order])
    assert ((got.p_value > 0) & (got.p_value <= 1)).all()
    more = memorization(generated, np.concatenate([training, generated[:1]]), held_out, **settings_)  # type: ignore[arg-type]
    assert more.nearest[0] == 11
    assert (more.distance <= got.distance + 1e-12).all()
    assert np.isfinite(more.ratio).all()


def test_an_image_in_both_sets_is_no_copy() -> None:
    training, held_out = images(1, 120), images(2, 110)
    held_out[3] = training[9]
    got = memorization(training[9:10], training, held_out)
    assert got.ratio.tolist() == pytest.approx([1])
    assert len(got.copies) == 0


def test_too_few_held_out_images_can_flag_nothing() -> None:
    got = memorization(images(1, 12), images(2, 12), images(3, 98))
    assert (got.share.status, got.share.n, got.threshold, len(got.copies)) == ("undefined", 12, None, 0)
    assert got.p_value.min() >= 1 / 99
    enough = memorization(images(1, 12), images(2, 12), images(3, 99))
    assert enough.share.status == "ok"
    assert memorization(images(1, 9), images(2, 12), images(3, 99)).share.status == "unreliable"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generated": np.ones((3, 5))}, "same encoder"),
        ({"training": np.zeros((0, D))}, "0 training images"),
        ({"groups": ["a"] * 30}, "1 held-out groups"),
        ({"groups": ["a"]}, "1 entries for 30"),
        ({"quantile": 0}, "quantile is 0"),
        ({"distance": "manhattan"}, "'manhattan'"),
        ({"pairs": -1}, "pairs is -1"),
        ({"level": 95}, "level is 95"),
        ({"training": np.ones((2, 10, D))}, "2 views and held_out 1"),
        ({"training": np.ones((0, 10, D))}, "one view or more"),
        (
            {"held_out": np.where(np.arange(30)[:, None] == 4, 0.0, images(3, 30))},
            "held_out: row 4 is all zeros",
        ),
        (
            {"training": np.where(np.arange(10)[:, None] == 2, np.nan, images(3, 10))},
            "training: row 2 holds a NaN",
        ),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"generated": images(1, 3), "training": images(2, 10), "held_out": images(3, 30), **change}
    with pytest.raises(ValueError, match=message):
        memorization(**arguments)  # type: ignore[arg-type]
