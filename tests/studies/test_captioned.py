"""Any folder of captioned pictures can be trained on, not only a prepared one."""

import json
from pathlib import Path

import pytest
from PIL import Image

from studies.captioned import read_captioned
from studies.dataset import DatasetError, Record, write_metadata


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def test_an_imagefolder_of_jsonl_or_csv_is_one_reference_pool(folder: Path) -> None:
    lines = [{"file_name": "a.png", "text": "a polyp"}, {"file_name": "b.png", "text": ["two", "captions"]}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_captioned(folder)
    assert [record.text for record in found] == [("a polyp",), ("two", "captions")]
    assert len(found.where(pool="reference")) == 2
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text('file_name,text\na.png,"a polyp, small"\n')
    assert [record.text for record in read_captioned(folder)] == [("a polyp, small",)]


def test_a_prepared_set_keeps_its_pools(folder: Path) -> None:
    record = Record("a.png", ("x",), "polyps", "polyp", "a", "1", "test")
    write_metadata(folder, [record])
    assert list(read_captioned(folder)) == [record]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file_name": "c.png", "text": "x"}, "does not exist"),
        ({"file_name": "../x.png", "text": "x"}, "leaves the folder"),
        ({"file_name": "a.png", "text": ""}, "caption"),
        ({"text": "x"}, "file_name"),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: dict[str, str], message: str) -> None:
    (folder / "metadata.jsonl").write_text(json.dumps(line))
    with pytest.raises(DatasetError, match=rf"line 1.*{message}"):
        read_captioned(folder)


def test_an_empty_folder_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"metadata\.jsonl"):
        read_captioned(tmp_path)
