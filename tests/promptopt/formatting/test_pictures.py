"""Contact sheets of any text."""

import numpy as np
import pytest
from PIL import Image

from promptopt.formatting.pictures import Tile, draw_sheet

TEXTS = ["a polyp\nred", "a\r\nb", "a\u2028b\u0085c", "\n", "", "ポリープ\n潰瘍", "x" * 200_000, "a\x1b[0m\0"]


@pytest.mark.parametrize("lines", [1, 3])
def test_text_of_any_kind_is_drawn(lines: int) -> None:
    image = Image.new("RGB", (16, 16))
    for text in TEXTS:
        sheet = draw_sheet([(text, [Tile(image, text)])], tile=32, label_lines=lines)
        title, label = np.asarray(sheet)[:20], np.asarray(sheet)[20 + 32 + 6 :]
        assert bool((title < 128).any()) == bool(text.strip()), text
        assert bool((label < 128).any()) == bool(text.strip()), text


def test_a_title_of_two_lines_shows_both_on_one() -> None:
    tile = Tile(Image.new("RGB", (16, 16)), "")
    broken, joined = (
        draw_sheet([(title, [tile] * 6)], tile=64) for title in ("a polyp,\nred", "a polyp, ⏎ red")
    )
    assert np.array_equal(np.asarray(broken), np.asarray(joined))
