"""What the VAE's loss terms punish, and what they leave alone."""

import pytest
import torch

from generators.training.vae import color_loss, edge_loss

FLAT = torch.zeros(1, 3, 32, 32)


def shifted(red: float, green: float, blue: float) -> torch.Tensor:
    return FLAT + torch.tensor([red, green, blue])[:, None, None]


def test_a_wrong_hue_costs_more_than_a_wrong_lightness_of_the_same_size():
    grey = color_loss(shifted(0.1, 0.1, 0.1), FLAT)
    assert color_loss(shifted(0.1, -0.1, 0.0), FLAT) > 3 * grey
    assert color_loss(shifted(0.1, 0.1, -0.1), FLAT) > 3 * grey
    assert grey > 0


def test_color_loss_sees_no_fine_detail_and_edge_loss_no_uniform_shift():
    checks = torch.zeros(1, 3, 32, 32)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 0.5
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = -0.5
    assert color_loss(checks, FLAT) == pytest.approx(0, abs=1e-6)
    assert edge_loss(checks, FLAT) > 1
    assert edge_loss(shifted(0.3, 0.0, -0.3), FLAT) == pytest.approx(0, abs=1e-6)
