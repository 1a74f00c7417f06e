"""The gap between two judges: a planted one is found, equal judges have none, and the interval covers."""

import numpy as np
import pytest
from scipy.stats import t

from evaluation.metrics.judge_gap import judge_gap


def draw(rng: np.random.Generator, n: int, *, gain: float, gamed: float) -> dict[str, np.ndarray]:
    """A prompt that is `gain` better, of which the search judge alone sees `gamed` more; SDs 2 and 0.5."""
    base = rng.normal(size=n)
    prompt = 0.5 * base + rng.normal(size=n) * np.sqrt(0.75) + gain
    noise = rng.normal(size=(4, n)) * 0.5
    sd = np.sqrt(1.25)
    return {
        "search": 2 * (prompt + noise[0] + gamed * sd) + 7,
        "held_out": 0.5 * (prompt + noise[1]) - 3,
        "baseline_search": 2 * (base + noise[2]) + 7,
        "baseline_held_out": 0.5 * (base + noise[3]) - 3,
    }


def test_units_do_not_matter_and_a_planted_gap_is_found() -> None:
    found = judge_gap(**draw(np.random.default_rng(0), 20_000, gain=1.0, gamed=0.4))
    assert found.held_out.value == pytest.approx(1 / np.sqrt(1.25), abs=0.03)
    assert found.search.value == pytest.approx(1 / np.sqrt(1.25) + 0.4, abs=0.03)
    assert found.gap.value == pytest.approx(0.4, abs=0.03)
    assert found.gap.low is not None
    assert found.gap.low > 0.3


@pytest.mark.parametrize(("gain", "gamed"), [(0.0, 0.0), (1.0, 0.5), (3.0, 2.0)])
def test_interval_covers(gain: float, gamed: float) -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(800):
        gap = judge_gap(**draw(rng, 32, gain=gain, gamed=gamed)).gap
        covered += gap.low <= gamed <= gap.high  # type: ignore[operator]
    assert 0.93 <= covered / 800 <= 0.98


def test_variance_is_the_jackknifes() -> None:
    data = draw(np.random.default_rng(4), 12, gain=1.0, gamed=0.5)
    found = judge_gap(**data)
    left_out = [judge_gap(**{k: np.delete(v, i) for k, v in data.items()}).gap.value for i in range(12)]
    half = t.ppf(0.975, 11) * np.sqrt(11 / 12 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    assert found.gap.high - found.gap.value == pytest.approx(half)  # type: ignore[operator]
    assert found.gap.status == "unreliable"


def test_what_has_no_gap_is_undefined_or_marked() -> None:
    assert judge_gap([1], [1], baseline_search=[0], baseline_held_out=[0]).gap.status == "undefined"
    flat = judge_gap([1, 2], [1, 2], baseline_search=[0.1, 0.1], baseline_held_out=[0, 1])
    assert (flat.search.status, flat.gap.status) == ("undefined", "undefined")
    assert flat.held_out.status == "unreliable"
    with pytest.raises(ValueError, match="pair all four by seed"):
        judge_gap([1, 2], [1], baseline_search=[0, 1], baseline_held_out=[0, 1])
    with pytest.raises(ValueError, match="not finite"):
        judge_gap([1, np.nan], [1, 2], baseline_search=[0, 1], baseline_held_out=[0, 1])


@pytest.mark.parametrize(("gain", "gamed"), [(0.0, 0.0), (1.0, 0.5)])
def test_unpaired_interval_covers(gain: float, gamed: float) -> None:
    """Generated images against other, real ones: both judges see the same images, with noise of their own."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(500):
        real, made = rng.normal(size=60), rng.normal(size=30) + gain * np.sqrt(1.25)
        values = {
            "search": made + 0.5 * rng.normal(size=30) + gamed * np.sqrt(1.25),
            "held_out": 3 * (made + 0.5 * rng.normal(size=30)) + 1,
            "baseline_search": real + 0.5 * rng.normal(size=60),
            "baseline_held_out": 3 * (real + 0.5 * rng.normal(size=60)) + 1,
        }
        gap = judge_gap(**values, paired=False).gap
        covered += gap.low <= gamed <= gap.high  # type: ignore[operator]
    assert 0.93 <= covered / 500 <= 0.985


def test_unpaired_needs_the_same_images_under_both_judges() -> None:
    with pytest.raises(ValueError, match="same images under both judges"):
        judge_gap([1, 2], [1, 2, 3], baseline_search=[0, 1], baseline_held_out=[0, 1], paired=False)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8)), rng.normal(size=(2, 30))
    found = judge_gap(*a, baseline_search=b[0], baseline_held_out=b[1], paired=False).gap
    assert (found.n, found.status) == (8, "unreliable")
    assert judge_gap([], [], baseline_search=b[0], baseline_held_out=b[1], paired=False).gap.value is None
