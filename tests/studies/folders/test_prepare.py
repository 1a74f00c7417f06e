"""Folders of pictures made into a data set that every stage reads."""

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from promptopt.cli.main import main
from studies.dataset import Dataset, DatasetError, read_dataset
from studies.folders import FolderReport, find_pictures, prepare_found
from tests.studies.folders.pictures import write_folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos")


def prepared(
    photos: Path, *, options: dict[str, Any] | None = None, **how: Any
) -> tuple[Dataset, FolderReport]:
    out = photos.with_name("data")
    found = find_pictures(photos, **how)
    report = prepare_found(found, out, source=photos, name="photos", **(options or {}))
    return read_dataset(out, verify_images=True), report


def test_folders_become_classes_and_each_class_is_shared_out_alike(photos: Path) -> None:
    data, report = prepared(photos)
    counts = Counter((record.label, record.pool) for record in data)
    assert counts == {
        (label, pool): count
        for label in ("polyp", "normal")
        for pool, count in (("reference", 12), ("validation", 4), ("test", 4))
    }
    assert report.by_class_pool["polyp"] == {"reference": 12, "validation": 4, "test": 4}
    assert {record.text for record in data.where(label="polyp")} == {("an image of polyp",)}
    assert all((photos.with_name("data") / record.file_name).is_file() for record in data)
    assert any("polyp 4" in warning for warning in report.warnings())


def test_the_same_input_gives_the_same_files_and_may_be_prepared_again(photos: Path) -> None:
    first, _ = prepared(photos)
    again, _ = prepared(photos)
    assert first == again


def test_nearly_the_same_pictures_and_those_of_a_patient_stay_together(photos: Path) -> None:
    write_folders(photos, each=40)
    for i in range(0, 20, 2):  # smaller and lossy: a near-duplicate under another patient's name
        with Image.open(photos / "polyp" / f"polyp-{i:02d}.png") as image:
            image.resize((90, 70)).save(photos / "polyp" / f"polyp-{i + 40:02d}.jpg", quality=70)
    data, report = prepared(photos, group_regex=r"-(\d)")
    pools, groups = defaultdict(set), defaultdict(set)
    for record in data:
        number = int(Path(record.file_name).stem[-2:])
        pools[record.label, number // 10].add(record.pool)
        groups[record.label, number].add(record.group)
        if number >= 40:
            groups[record.label, number - 40].add(record.group)
    assert all(len(of) == 1 for of in pools.values())
    assert all(len(of) == 1 for of in groups.values())
    assert report.shared_groups


def test_captions_come_from_text_files_or_the_table_and_else_from_the_prompts(photos: Path) -> None:
    (photos / "polyp" / "polyp-03.txt").write_text("a red polyp\na polyp with a stalk\n")
    (photos / "captions.csv").write_text('file_name,text\npolyp/polyp-04.png,"a flat, pale polyp"\n')
    prompts = ["a photo of {label}", "{label}"]
    data, report = prepared(photos, labels=photos / "captions.csv", options={"prompts": prompts})
    text = {Path(record.file_name).name: record.text for record in data}
    assert text["polyp-03.png"] == ("a red polyp", "a polyp with a stalk")
    assert text["polyp-04.png"] == ("a flat, pale polyp",)
    assert text["normal-00.png"] == ("a photo of normal", "normal")
    assert report.captioned == 2


def test_a_table_says_class_patient_and_hospital(photos: Path) -> None:
    rows = [
        f"{label}/{label}-{i:02d}.png;{'Adenoma' if i % 2 else 'Other'};p{i // 4};north"
        for label in ("polyp", "normal")
        for i in range(18)
    ]
    (photos / "labels.csv").write_text("\n".join(["Filename;Class;Patient;Center", *rows]))
    data, _ = prepared(photos, labels=photos / "labels.csv")
    assert len(data) == 36  # what the table does not list is not taken
    assert Counter(record.label for record in data) == {"Adenoma": 18, "Other": 18}
    assert {record.center for record in data} == {"north"}
    pools = defaultdict(set)
    for record in data:
        pools[int(Path(record.file_name).stem[-2:]) // 4].add(record.pool)
    assert all(len(of) == 1 for of in pools.values())


def test_hospitals_are_folders_or_part_of_a_name(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_folders(photos, ("north/polyp", "north/normal"))
    write_folders(photos, ("south/polyp", "south/normal"), first=5000)
    data, _ = prepared(photos, center_folders=True)
    assert Counter((r.center, r.label) for r in data)["south", "polyp"] == 20
    shutil.rmtree(tmp_path / "data")
    data, _ = prepared(photos / "north", center_regex=r"-(\d)")
    assert {record.center for record in read_dataset(photos / "data")} == {"0", "1"}


def test_broken_and_contradictory_files_are_left_out_and_told(photos: Path) -> None:
    (photos / "polyp" / "polyp-00.png").write_bytes(b"broken")
    shutil.copy(photos / "polyp" / "polyp-01.png", photos / "normal" / "same.png")
    data, report = prepared(photos)
    names = {record.file_name for record in data}
    assert len(names) == 38
    assert not names & {"images/polyp/polyp-00.png", "images/polyp/polyp-01.png", "images/normal/same.png"}
    assert list(report.broken) == ["polyp/polyp-00.png"]
    assert report.contradictions == (("normal/same.png", "polyp/polyp-01.png"),)
    written = json.loads((photos.with_name("data") / "prepare-report.json").read_text())
    assert written["broken"].keys() == {"polyp/polyp-00.png"}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"group_regex": "(p"}, r"--group-regex: '\(p' is no regular expression"),
        ({"group_regex": r"patient(\d+)"}, r"matches nothing in 'normal/normal-00.png'"),
        ({"labels": "a,b\n1,2\n"}, "line 1: got the columns a, b.*first line must be"),
        ({"labels": "file_name,label\npolyp-03.png,x\n"}, "line 2: .*write 'polyp/polyp-03.png'"),
        ({"labels": "file_name,label\npolyp/polyp-03.png,\n"}, "line 2: the label of .* is empty"),
        (
            {"labels": "file_name,label\npolyp/polyp-03.png,a\npolyp/polyp-03.png,b\n"},
            "line 3: .* is b here and a in line 2",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(photos: Path, how: dict[str, Any], message: str) -> None:
    if "labels" in how:
        file = photos / "labels.csv"
        file.write_text(how["labels"])
        how = {"labels": file}
    with pytest.raises(DatasetError, match=message):
        find_pictures(photos, **how)


def test_one_patient_for_a_whole_class_cannot_be_shared_out(photos: Path) -> None:
    with pytest.raises(DatasetError, match=r"20 images of class 'normal' lie in 1 groups.*other patients"):
        prepared(photos, group_regex="^(normal|polyp/.*)")
    assert not photos.with_name("data").exists()


def test_parts_of_a_data_set_are_not_taken_for_classes(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", ("train", "test"))
    with pytest.raises(DatasetError, match=r"test, train are parts of a data set, not classes.*imagefolder"):
        find_pictures(photos)


def test_the_command_writes_a_report_and_a_sheet_and_says_what_is_next(photos: Path) -> None:
    out = photos.with_name("own")
    said = CliRunner().invoke(
        main, ["data", "prepare", "folders", str(photos), str(out), "--prompt", "a scan of {label}"]
    )
    assert said.exit_code == 0, said.output
    assert "promptopt init --data" in said.stdout
    assert "32 images" in said.stderr
    with Image.open(out.with_name("own-sheet.png")) as sheet:
        assert sheet.width > 10 * 128
    assert {record.text for record in read_dataset(out)} == {("a scan of polyp",), ("a scan of normal",)}
