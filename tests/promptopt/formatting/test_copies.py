"""The sheet of closest pairs shows the right images in the right places."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.metrics.memorization import Pair
from evaluation.report.table import CopyPair
from promptopt.formatting.copies import MOST_PAIRS, clusters_sheet, copies_sheet, pairs_sheet


def pair(generated: int, training: int, *, copy: bool = False) -> Pair:
    return Pair(generated, training, 0.1, 0.5, 0.01, copy)


def test_pairs_stand_side_by_side(tmp_path: Path) -> None:
    made = [Image.new("RGB", (40, 40), color) for color in ("red", "lime", "blue")]
    known = [Image.new("RGB", (40, 20), "yellow"), Image.new("L", (40, 40), 0)]
    known[0].save(tmp_path / "known.png")
    sheet = pairs_sheet(
        [pair(2, 0, copy=True), pair(1, 1), pair(0, 1)],
        made,
        [tmp_path / "known.png", known[1]],
        columns=2,
        tile=40,
    )
    center = {"blue": (26, 46), "yellow": (72, 46), "lime": (118, 46), "black": (164, 46), "red": (26, 120)}
    colors = {
        "blue": (0, 0, 255),
        "yellow": (255, 255, 0),
        "lime": (0, 255, 0),
        "black": (0, 0, 0),
        "red": (255, 0, 0),
    }
    assert {name: sheet.getpixel(at) for name, at in center.items()} == colors
    assert sheet.getpixel((72, 28)) == (255, 255, 255)  # fitted, not stretched
    frame = np.asarray(sheet)[24, 4:92]
    assert (frame == (255, 0, 0)).all()
    assert not (np.asarray(sheet)[24, 102:180] == (255, 0, 0)).all()


def test_bad_input_is_named(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    with pytest.raises(ValueError, match="no pair"):
        pairs_sheet([], [image], [image])
    with pytest.raises(ValueError, match="training image 3"):
        pairs_sheet([pair(0, 3)], [image], [image])
    with pytest.raises(ValueError, match="tile is 8"):
        pairs_sheet([pair(0, 0)], [image], [image], tile=8)
    (tmp_path / "no.png").write_text("x")
    with pytest.raises(ValueError, match=r"no\.png: not a readable image"):
        pairs_sheet([pair(0, 0)], [tmp_path / "no.png"], [image])


def test_sheets_of_an_evaluation_show_its_files_and_their_number_is_bounded(tmp_path: Path) -> None:
    for name, color in (("made.png", "blue"), ("known.png", "yellow")):
        Image.new("RGB", (20, 20), color).save(tmp_path / name)
    made, known = str(tmp_path / "made.png"), str(tmp_path / "known.png")
    flagged, other = CopyPair(made, known, 0.1, 0.2, 0.01, True), CopyPair(made, known, 0.1, 0.9, 0.4, False)
    sheet = np.asarray(copies_sheet([flagged, other], tile=64))
    for color, count in (((0, 0, 255), 2), ((255, 255, 0), 2)):  # both pairs, both images
        assert (sheet == color).all(axis=2).sum() == count * 64 * 64
    red = (sheet == (255, 0, 0)).all(axis=2)
    assert red[:, :140].any()
    assert not red[:, 150:].any()
    many = copies_sheet([other] * (MOST_PAIRS + 30), tile=32)
    assert many.height < copies_sheet([other] * MOST_PAIRS, tile=32).height + 30
    cluster = np.asarray(clusters_sheet([(made, made), (known, known, known)], tile=32))
    assert (cluster == (255, 255, 0)).all(axis=2).sum() == 3 * 32 * 32
    with pytest.raises(ValueError, match="no pair"):
        copies_sheet([])
    with pytest.raises(ValueError, match="no cluster"):
        clusters_sheet([])
