"""The blinded sheet: only the picture may tell, the key alone says which, and answers are checked."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta, binom
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.review.records import ReviewError
from promptopt.review.sheet import write_sheet
from promptopt.review.sheet_scores import score_answers
from promptopt.run.images import RunImages
from studies.phantom.dataset import STAMP
from tests.promptopt.small_run import SmallRun


@pytest.fixture
def run(shared_run) -> SmallRun:
    return shared_run


@pytest.fixture
def sheet(run, tmp_path):
    return write_sheet(run.images, run.data, tmp_path / "sheet", each=12, seed=7)


def read_key(sheet) -> dict:
    return json.loads(sheet.key.read_text())


def fill(sheet, out: Path, *, rater: str = "anna", wrong=(), delimiter: str = ",", bom: bool = False) -> Path:
    """Answers of somebody who knows the key but for the numbers in `wrong`."""
    truth = {row["number"]: row["synthetic"] for row in read_key(sheet)["images"]}
    with sheet.answers.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with out.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0], delimiter=delimiter)
        writer.writeheader()
        for row in rows:
            said = truth[int(row["number"])] != (int(row["number"]) in wrong)
            writer.writerow({**row, "rater": rater, "answer": "synthetic" if said else "real"})
    return out


def test_nothing_but_the_picture_tells_the_images_apart(sheet):
    files = sorted((sheet.folder / "images").iterdir())
    assert [file.name for file in files] == [f"{n:03d}.png" for n in range(1, 25)]
    assert len({file.stat().st_size for file in files}) == 1
    assert len({file.stat().st_mtime for file in files}) == 1
    for file in files:
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (16, 16), {})
        assert b"tEXt" not in file.read_bytes()
    for name in ("sheet.html", "answers.csv"):
        text = (sheet.folder / name).read_text()
        for row in read_key(sheet)["images"]:
            assert row["source"] not in text
            assert row["sha256"] not in text
    # every image is shown by the same markup
    page = (sheet.folder / "sheet.html").read_text()
    parts = [page.split("<fieldset>")[n].split("</fieldset>")[0] for n in range(1, 25)]
    assert len({part.replace(f"{n:03d}", "N").replace(str(n), "N") for n, part in enumerate(parts, 1)}) == 1


def test_raters_of_drawings_are_not_told_that_they_are_photographs(run, sheet, tmp_path):
    assert "photographs of patients" in sheet.page.read_text()
    shutil.copytree(run.data, tmp_path / "phantom")
    (tmp_path / "phantom" / STAMP).write_text("{}")  # as `data prepare phantom` marks its sets
    drawn = write_sheet(run.images, tmp_path / "phantom", tmp_path / "drawn", each=4, seed=7)
    text = drawn.page.read_text()
    assert "drawn by a program" in text
    assert "photograph of" not in text
    assert "photographs of" not in text


def test_the_key_is_right_and_apart(run, sheet):
    key = read_key(sheet)
    assert not sheet.key.resolve().is_relative_to(sheet.folder.resolve())
    assert sheet.key.stat().st_mode & 0o077 == 0
    assert sum(row["synthetic"] for row in key["images"]) == 12
    stored = {path.name: path for path in (run.store / "images").rglob("*.png")}
    real = {path.name: path for path in (run.data / "images").iterdir()}
    for row in key["images"]:
        assert (row["prompt"] is not None) is row["synthetic"]
        source = (stored if row["synthetic"] else real)[row["source"]]
        assert row["synthetic"] or row["source"].startswith("test-")  # pictures that nothing was trained on
        with (
            Image.open(source) as image,
            Image.open(sheet.folder / f"images/{row['number']:03d}.png") as copy,
        ):
            assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(copy))
    assert len({row["source"] for row in key["images"]}) == 24
    kinds = [row["synthetic"] for row in key["images"]]
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)


def test_same_seed_same_sheet_and_another_seed_another(run, sheet, tmp_path):
    again = write_sheet(run.images, run.data, tmp_path / "again", each=12, seed=7)
    other = write_sheet(run.images, run.data, tmp_path / "other", each=12, seed=8)
    assert again.sheet == sheet.sheet
    assert other.sheet != sheet.sheet


def test_larger_real_images_come_down_to_the_synthetic_ones(run, tmp_path):
    (tmp_path / "real").mkdir()
    rng = np.random.default_rng(0)
    for n in range(6):
        pixels = rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "real" / f"{n}.jpg", quality=80)
    made = write_sheet(run.images, tmp_path / "real", tmp_path / "sheet", each=6)
    assert made.size == 16
    assert any("60 pixels" in note for note in made.notes)
    sizes = {file.stat().st_size for file in (made.folder / "images").iterdir()}
    assert len(sizes) == 1


def test_what_cannot_be_blinded_is_refused(run, sheet, tmp_path):
    with pytest.raises(ReviewError, match="lies in the raters' folder"):
        write_sheet(run.images, run.data, tmp_path / "new", key=tmp_path / "new" / "key.json", each=4)
    before = sheet.key.read_bytes()
    with pytest.raises(ReviewError, match="--force"):
        write_sheet(run.images, run.data, sheet.folder, each=4)
    assert sheet.key.read_bytes() == before
    assert write_sheet(run.images, run.data, sheet.folder, each=4, force=True).sheet != sheet.sheet
    assert len(list((sheet.folder / "images").iterdir())) == 8
    with pytest.raises(ReviewError, match=r"has 20 images"):
        write_sheet(run.images, run.data, tmp_path / "many", each=21)
    with pytest.raises(ReviewError, match="no such folder"):
        write_sheet(run.images, tmp_path / "nowhere", tmp_path / "x", each=4)
    (tmp_path / "images").mkdir()
    with pytest.raises(ReviewError, match="are not in"):
        write_sheet(RunImages.open(run.folder, store=tmp_path), run.data, tmp_path / "x", each=4)


def test_accuracy_is_what_was_right_with_exact_interval_and_test(sheet, tmp_path):
    key = {row["number"]: row["synthetic"] for row in read_key(sheet)["images"]}
    synthetic = [number for number, made in key.items() if made]
    found = score_answers([fill(sheet, tmp_path / "a.csv", wrong=synthetic[:5])], sheet.key)
    (anna,) = found.raters
    assert anna.accuracy.value == pytest.approx(19 / 24)
    assert anna.accuracy.low == pytest.approx(beta.ppf(0.025, 19, 6))
    assert anna.accuracy.high == pytest.approx(beta.ppf(0.975, 20, 5))
    assert anna.p_value == pytest.approx(2 * binom.sf(18, 24, 0.5))
    assert anna.sensitivity.value == pytest.approx(7 / 12)
    assert anna.specificity.value == 1.0
    assert "more often than by chance" in found.verdict
    assert found.fleiss is None


def test_several_raters_are_told_apart_and_their_agreement_measured(sheet, tmp_path):
    files = [
        fill(sheet, tmp_path / "a.csv", rater="anna", wrong=range(1, 13)),
        fill(sheet, tmp_path / "b.csv", rater="bert", wrong=range(1, 13), delimiter=";", bom=True),
        fill(sheet, tmp_path / "c.csv", rater="carl", wrong=range(13, 25)),
    ]
    found = score_answers(files, sheet.key)
    assert [rater.rater for rater in found.raters] == ["anna", "bert", "carl"]
    assert all(rater.accuracy.value == 0.5 for rater in found.raters)
    assert found.kappas["anna", "bert"].value == 1.0
    assert found.kappas["anna", "carl"].value < 0
    assert found.fleiss is not None
    assert found.together.accuracy.value == pytest.approx(0.5)
    assert "no proof" in found.verdict
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("row", "column", "value", "complaint"),
    [
        (4, "answer", "", r"line 4: image 3: no answer"),
        (4, "answer", "maybe", r"line 4: image 3: answer 'maybe'; write real or synthetic"),
        (4, "number", "99", r"line 4: number '99': the sheet has images 1 to 24"),
        (5, "number", "3", r"line 5: anna answered image 3 already in .*line 4"),
        (1, "sheet", "blatt", r"line 1: got .*without 'sheet'"),
    ],
)
def test_answers_that_are_not_are_named_by_line(sheet, tmp_path, row, column, value, complaint):
    file = fill(sheet, tmp_path / "a.csv")
    with file.open(newline="") as stream:
        rows = list(csv.reader(stream))
    rows[row - 1][rows[0].index(column)] = value
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    with pytest.raises(ReviewError, match=complaint):
        score_answers([file], sheet.key)


def test_incomplete_and_foreign_answers_are_refused(run, sheet, tmp_path):
    file = fill(sheet, tmp_path / "a.csv")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5] + lines[6:]))
    with pytest.raises(ReviewError, match="anna: no row for image 5"):
        score_answers([file], sheet.key)
    with pytest.raises(ReviewError, match="line 2: image 1: no answer"):
        score_answers([sheet.answers], sheet.key)
    other = write_sheet(run.images, run.data, tmp_path / "other", each=12, seed=8)
    with pytest.raises(ReviewError, match="line 2: belongs to sheet"):
        score_answers([fill(other, tmp_path / "b.csv")], sheet.key)
    with pytest.raises(ReviewError, match="not a sheet's key"):
        score_answers([file], run.folder / "prompts.json")
    with pytest.raises(ReviewError, match="already in"):
        score_answers([fill(sheet, tmp_path / "c.csv"), fill(sheet, tmp_path / "d.csv")], sheet.key)


def test_the_commands_from_sheet_to_score(run, tmp_path):
    made = CliRunner().invoke(
        main,
        [
            *("review", "sheet", str(run.folder), "--store", str(run.store), "--real", str(run.data)),
            *("--out", str(tmp_path / "sheet"), "--each", "6"),
        ],
    )
    assert made.exit_code == 0, made.output
    key = tmp_path / "sheet-key.json"
    assert str(key) in made.stdout
    truth = {row["number"]: row["synthetic"] for row in json.loads(key.read_text())["images"]}
    rows = (tmp_path / "sheet" / "answers.csv").read_text().splitlines()
    for rater in ("a", "b"):
        filled = [rows[0]]
        for row in rows[1:]:
            name, _, number, *_ = row.split(",")
            filled.append(f"{name},{rater},{number},{'s' if truth[int(number)] else 'r'},")
        (tmp_path / f"{rater}.csv").write_text("\n".join(filled))
    scored = CliRunner(env={"COLUMNS": "200"}).invoke(
        main,
        [
            *("review", "score", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), str(key)),
            *("--out", str(tmp_path / "scores.json")),
        ],
    )
    assert scored.exit_code == 0, scored.output
    assert "100 %" in scored.stdout
    assert json.loads((tmp_path / "scores.json").read_text())["images"] == 12
