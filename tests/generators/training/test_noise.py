"""Which timesteps a training step sees."""

import pytest
import torch

from generators.training.noise import Noising
from generators.training.parts import build_scheduler


def noising() -> Noising:
    return Noising.from_scheduler(
        build_scheduler(prediction_type="v_prediction", zero_terminal_snr=True), zero_terminal_snr=True
    )


def test_the_noisiest_timesteps_are_drawn_as_often_as_asked() -> None:
    chances = noising().timestep_chances(portion=0.4, multiplier=3.0)
    drawn = torch.multinomial(chances, 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    assert (drawn >= 600).float().mean().item() == pytest.approx(0.4 * 3 / (0.6 + 0.4 * 3), abs=0.02)
    assert (int(drawn.min()), int(drawn.max())) == (0, 999)


def test_without_a_bias_every_timestep_is_as_likely() -> None:
    assert noising().timestep_chances(portion=0.4).unique().tolist() == [1.0]
