"""Planted copies are found, real-like sets are left alone, and the interval covers."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from evaluation import Duplicates, duplicates

REAL = np.random.default_rng(99).normal(size=(300, 24))


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 24))


def test_planted_copies_and_near_copies_are_found_and_nothing_else() -> None:
    x = images(40)
    x[30:34] = x[0]  # five equal ones
    x[34] = x[1] + 0.01 * images(1, seed=5)[0]
    found = duplicates(x, REAL)
    assert found.clusters == ((0, 30, 31, 32, 33), (1, 34))
    assert found.share.value == pytest.approx(7 / 40)
    assert found.exact.value == pytest.approx(5 / 40)
    assert (found.nearest[34], found.nearest[1]) == (1, 34)
    assert found.distance[30] == 0
    assert found.share.low < 7 / 40 < found.share.high  # type: ignore[operator]
    assert found.share.status == found.exact.status == "ok"


@pytest.mark.parametrize("n", [16, 128])
def test_images_drawn_as_the_real_ones_are_are_seldom_called_duplicates(n: int) -> None:
    shares = [duplicates(images(n, seed=s), REAL, quantile=0.05).share.value for s in range(40)]
    assert np.mean(shares) <= 0.05 + 0.02  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(2, 25), st.sampled_from(["cosine", "euclidean"]))
def test_agrees_with_scipy(seed: int, n: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    x, real = rng.integers(-2, 3, (n, 3)) + 0.25, rng.normal(size=(12, 3))
    found = duplicates(x, real, quantile=0.5, distance=kind)  # type: ignore[arg-type]
    gaps = cdist(real, real, kind)[np.triu_indices(12, 1)]
    rank = int(np.floor(0.5 / (n - 1) * (len(gaps) + 1) + 1e-9))
    if rank == 0:
        assert found.radius is None
        return
    assert found.radius == pytest.approx(np.sort(gaps)[rank - 1])
    own = cdist(x, x, kind)
    np.fill_diagonal(own, np.inf)
    near = own < found.radius - 1e-12
    assume((np.abs(own - found.radius) >= 1e-12).all())  # no tie that rounding decides
    assert found.share.value == pytest.approx(near.any(axis=1).mean())
    parts = connected_components(near)[1]
    expected = {tuple(np.flatnonzero(parts == p)) for p in set(parts.tolist()) if (parts == p).sum() > 1}
    assert set(found.clusters) == expected


def test_the_radius_holds_for_any_number_of_images_and_leaves_groups_out() -> None:
    few, many = duplicates(images(8), REAL), duplicates(images(80), REAL)
    assert many.radius < few.radius  # type: ignore[operator]
    twins = np.concatenate([REAL, REAL + 1e-3])
    groups = [str(i % 300) for i in range(600)]
    assert duplicates(images(8), twins).radius < 1e-4  # type: ignore[operator]
    assert duplicates(images(8), twins, groups=groups).radius == pytest.approx(few.radius, rel=0.15)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(50)
    x[20:30] = x[:10]
    whole = duplicates(x, REAL)
    monkeypatch.setattr("evaluation.metrics.duplicates.BLOCK", 7)
    parts = duplicates(x, REAL)
    assert (parts.share, parts.exact, parts.clusters) == (whole.share, whole.exact, whole.clusters)
    assert parts.radius == pytest.approx(whole.radius)


@pytest.mark.slow
@pytest.mark.parametrize(("modes", "share"), [(20, None), (None, 0.3), (None, 0.0)])
def test_interval_covers(modes: int | None, share: float | None) -> None:
    """Images from 20 prototypes; or a share from 5 prototypes and all others new."""
    n, rng = 32, np.random.default_rng(3)
    prototypes = images(20, seed=8)

    def draw() -> Duplicates:
        if modes is not None:
            return duplicates(prototypes[rng.integers(0, modes, n)], REAL)
        fresh = rng.normal(size=(n, 24))
        copied = rng.random(n) < share
        fresh[copied] = prototypes[rng.integers(0, 5, copied.sum())]
        return duplicates(fresh, REAL)

    truth = np.mean([draw().exact.value for _ in range(300)])  # type: ignore[arg-type]
    hits = [e.low <= truth + 1e-9 and truth - 1e-9 <= e.high for e in (draw().exact for _ in range(200))]  # type: ignore[operator]
    assert np.mean(hits) >= 0.92


def test_few_images_and_few_real_ones_are_said() -> None:
    assert duplicates(images(1), REAL).share.status == "undefined"
    assert duplicates(np.empty((0, 24)), REAL).exact.status == "undefined"
    assert duplicates(images(5), REAL).share.status == "unreliable"
    x = np.concatenate([images(30), images(1)])
    blind = duplicates(x, REAL[:3])
    assert blind.radius is None
    assert (blind.share.value, blind.share.status) == (pytest.approx(2 / 31), "unreliable")
    assert "too few real images" in blind.share.method
    assert (blind.exact.value, blind.exact.status) == (pytest.approx(2 / 31), "ok")
    assert duplicates(np.ones((20, 24)), REAL).share.value == 1


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="quantile is 0"):
        duplicates(images(3), REAL, quantile=0)
    with pytest.raises(ValueError, match="distance is 'l1'"):
        duplicates(images(3), REAL, distance="l1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 3 numbers an image and real 24"):
        duplicates(np.ones((4, 3)), REAL)
    with pytest.raises(ValueError, match="2 entries for 300 real images"):
        duplicates(images(3), REAL, groups=["a", "b"])
    with pytest.raises(ValueError, match="all zeros"):
        duplicates(np.zeros((3, 24)), REAL)
