"""Numbers too small for float32's normal range, within and after."""

from __future__ import annotations

import pytest
import torch

from promptopt.base.training.denormals import denormals


def kept() -> bool:
    return float(torch.tensor(1e-40) * 1) != 0


def test_they_are_flushed_or_kept_within_and_as_they_were_after() -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor does not flush denormal numbers")
    with denormals(flushed=True):
        assert not kept()
        with denormals(flushed=False):
            assert kept()
        assert not kept()
        with pytest.raises(ValueError, match="within"), denormals(flushed=False):
            raise ValueError("within")
        assert not kept()
    assert kept()
