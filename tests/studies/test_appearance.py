"""Measures of pictures: each follows what is done to a picture, and leaves the others' words alone."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from studies.appearance import MEASURES, appearance


@pytest.fixture
def tissue() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 90, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(noise + np.array([120, 60, 60], dtype=np.uint8)).resize((128, 128))


def test_what_is_done_to_a_picture_moves_its_measure(tissue: Image.Image) -> None:
    plain = appearance(tissue)
    assert list(plain) == list(MEASURES)
    assert appearance(ImageEnhance.Brightness(tissue).enhance(0.5))["brightness"] < plain["brightness"] - 0.1
    assert appearance(tissue.filter(ImageFilter.GaussianBlur(4)))["sharpness"] < plain["sharpness"] - 0.5
    assert appearance(ImageEnhance.Color(tissue).enhance(0.3))["vividness"] < plain["vividness"] - 0.1
    yellow = Image.fromarray(np.asarray(tissue) // np.array([1, 1, 4], dtype=np.uint8))
    assert appearance(yellow)["redness"] < plain["redness"] - 0.1
    lit = tissue.copy()
    ImageDraw.Draw(lit).rectangle((40, 40, 71, 71), fill=(250, 250, 250))
    assert appearance(lit)["highlights"] - plain["highlights"] == pytest.approx(100 / 16, abs=0.5)
    half = tissue.copy()
    ImageDraw.Draw(half).rectangle((0, 0, 63, 127), fill=(30, 20, 20))
    assert appearance(half)["evenness"] < 0


def test_a_black_edge_is_counted_and_does_not_darken(tissue: Image.Image) -> None:
    framed = tissue.copy()
    ImageDraw.Draw(framed).rectangle((0, 0, 31, 127), fill=(0, 0, 0))
    found, plain = appearance(framed), appearance(tissue)
    assert found["black_edge"] == pytest.approx(25, abs=0.5)
    assert found["brightness"] == pytest.approx(plain["brightness"], abs=0.01)
    spot = tissue.copy()
    ImageDraw.Draw(spot).rectangle((48, 48, 79, 79), fill=(0, 0, 0))
    assert appearance(spot)["black_edge"] == 0


def test_a_black_picture_has_values(tissue: Image.Image) -> None:
    assert all(np.isfinite(list(appearance(Image.new("L", (20, 30))).values())))
