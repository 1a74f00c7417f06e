"""The nearest kept image, against a look at all of them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import promptopt.augmentation.copies as copies
from promptopt.augmentation.copies import OwnCopies, TrainingCopies


def rounded(rows: np.ndarray) -> np.ndarray:
    """Of length 1, as they are kept: 16 bits."""
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float64)
    return unit / np.linalg.norm(unit, axis=1, keepdims=True)


@given(
    seed=st.integers(0, 2**32 - 1),
    parts=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    spread=st.sampled_from([0.0, 0.01, 0.3, 3.0]),
    block=st.sampled_from([1, 4, 7]),
)
def test_the_nearest_is_that_of_a_look_at_all(seed: int, parts: list[int], spread: float, block: int) -> None:
    """Whatever comes in which parts: pictures of few kinds, exact repetitions among them."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(3, 12)) * np.linspace(2, 0.1, 12)
    rows = [
        (kinds[rng.integers(3, size=n)] + spread * rng.normal(size=(n, 12)) + 0.1).astype(np.float32)
        for n in parts
    ]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_ROWS", block)
        patch.setattr(copies, "_AXES", 3)
        own = OwnCopies(Path(folder) / "kept", dim=12, radius=0.05)
        kept = np.zeros((0, 12))
        for turn, part in enumerate(rows):
            nearest, among = own.distances(part)
            now = rounded(part) if len(part) else np.zeros((0, 12))
            if len(kept):
                assert nearest == pytest.approx((1 - now @ kept.T).min(axis=1), abs=1e-6)
            else:
                assert np.isinf(nearest).all()
            assert among == pytest.approx(np.clip(1 - now @ now.T, 0, 2), abs=1e-6)
            own.keep(part)
            kept = np.concatenate([kept, now])
            if turn % 3 == 2:  # as after a kill
                checksum = own.checksum
                own = OwnCopies(Path(folder) / "kept", dim=12, radius=0.05)
                own.resume(len(kept), checksum, lambda: pytest.fail("the file is whole"))


@pytest.mark.parametrize("held_out", [19, 40, 99, 400])
def test_few_held_out_images_tell_copies_at_a_larger_chance_of_an_error(held_out: int) -> None:
    """Copies are seen; of images that copy nothing, 1 in `held_out` + 1 is taken for one, or 1 in 100."""
    rng = np.random.default_rng(held_out)
    flagged = []
    for _ in range(60):
        training, real, made = (rng.normal(size=(n, 6)).astype(np.float32) for n in (200, held_out, 100))
        found = TrainingCopies(training[None], real[None], groups=range(held_out))
        assert (found.ratios(training[:5]) < found.threshold).all()
        flagged.append((found.ratios(made) < found.threshold).mean())
    assert np.mean(flagged) == pytest.approx(max(0.01, 1 / (held_out + 1)), rel=0.5)


def test_too_few_held_out_images_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 18, 6)).astype(np.float32)
    with pytest.raises(ValueError, match="18 held-out real images, 19 are the least"):
        TrainingCopies(rows, rows, groups=range(18))
