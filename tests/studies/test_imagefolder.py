"""Any folder of captioned pictures can be trained on, not only a prepared one."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from evaluation.classifier.folders import synthetic_files
from evaluation.features.image_set import read_image_set
from promptopt.cli.main import main
from studies.dataset import Dataset, DatasetError, Record, read_dataset, share_out, write_metadata


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def test_an_imagefolder_of_jsonl_or_csv_is_one_reference_pool(folder: Path) -> None:
    lines = [{"file_name": "a.png", "text": "a polyp"}, {"file_name": "b.png", "text": ["two", "captions"]}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_dataset(folder)
    assert [record.text for record in found] == [("a polyp",), ("two", "captions")]
    assert len(found.where(pool="reference")) == 2
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text('file_name,text\na.png,"a polyp, small"\n')
    assert [record.text for record in read_dataset(folder)] == [("a polyp, small",)]


def test_a_prepared_set_keeps_its_pools(folder: Path) -> None:
    record = Record("a.png", ("x",), "polyps", "polyp", "a", "1", "test")
    write_metadata(folder, [record])
    assert list(read_dataset(folder)) == [record]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file_name": "c.png", "text": "x"}, "there is no image"),
        ({"file_name": "../x.png", "text": "x"}, "inside the folder"),
        ({"file_name": "a.png", "text": ""}, "caption"),
        ({"text": "x"}, "file_name"),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: dict[str, str], message: str) -> None:
    (folder / "metadata.jsonl").write_text(json.dumps(line))
    with pytest.raises(DatasetError, match=rf"line 1.*{message}"):
        read_dataset(folder)


def test_an_empty_folder_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"metadata\.jsonl"):
        read_dataset(tmp_path)


def write_table(folder: Path, content: str, name: str = "metadata.csv") -> None:
    (folder / name).write_bytes(content.encode())


def test_captions_of_several_lines_and_several_rows_of_a_picture_are_kept(folder: Path) -> None:
    write_table(
        folder, 'file_name;text;label\r\na.png;"one,\nof two lines";x\r\nb.png;b;7\r\na.png;more;x\r\n'
    )
    assert [(r.file_name, r.text, r.label, r.category) for r in read_dataset(folder)] == [
        ("a.png", ("one,\nof two lines", "more"), "x", "x"),
        ("b.png", ("b",), "7", "7"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,text\na.png,a polyp, red\nb.png,x\n", "line 2: 3 fields"),
        ('file_name,text\na.png,"a polyp\nb.png,x\n', "line 2: not CSV"),
        ('file_name,text\na.png,"a polyp\nb.png,x"\n', "line 2: .*another row"),
        ("file_name,caption\na.png,x\n", "without 'text'"),
        ("file_name,text\na.png,x\nA.png,y\n", r"line 3.*'A.png', but 'a.png', which differs in upper and"),
        ("file_name,text\na.png,\u200b\n", "line 2: text is"),
        ("file_name,text,label\na.png,x,u\na.png,y,v\n", "line 3: 'a.png' has the label 'v', and 'u' before"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(folder: Path, content: str, message: str) -> None:
    write_table(folder, content)
    with pytest.raises(DatasetError, match=message):
        read_dataset(folder)


def test_line_separators_inside_a_caption_do_not_end_a_line(folder: Path) -> None:
    lines = [{"file_name": f"{name}.png", "text": "a\u2028b\u0085c\u2029d"} for name in "ab"]
    write_table(folder, "\n".join(json.dumps(one, ensure_ascii=False) for one in lines), "metadata.jsonl")
    assert [record.text for record in read_dataset(folder)] == [("a\u2028b\u0085c\u2029d",)] * 2


def test_labels_are_those_of_the_folders_and_pools_are_shared_out_for_studies(tmp_path: Path) -> None:
    rows = ["file_name,text"]
    for number in range(40):
        label = ("polyp", "ポリープ")[number % 2]
        (tmp_path / label).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number // 4 * 4, 0, 0)).save(tmp_path / label / f"{number}.png")
        rows.append(f"{label}/{number}.png,x")
    write_table(tmp_path, "\n".join(rows))
    found = read_dataset(tmp_path)
    assert {record.label for record in found} == {"polyp", "ポリープ"}
    assert not found.pooled
    shared = share_out(found)
    assert shared.pooled
    assert {record.pool for record in shared} == {"reference", "validation", "test"}
    pools = {record.group: record.pool for record in shared}
    assert len(pools) == 10
    assert all(pools[record.group] == record.pool for record in shared)  # copies stay together
    assert share_out(shared) is shared


def test_check_evaluate_and_classify_take_the_same_folder(folder: Path) -> None:
    write_table(folder, 'file_name,text,label\na.png,"two\nlines",u\nb.png,y,v\n')
    (folder / "not-listed.png").write_bytes((folder / "a.png").read_bytes())
    said = CliRunner().invoke(main, ["data", "check", str(folder)])
    assert said.exit_code == 0, said.output
    assert "2 images in" in said.stdout
    assert [path.name for path in read_image_set(folder).paths] == ["a.png", "b.png"]
    assert list(synthetic_files(folder).labels) == ["u", "v"]


def test_training_takes_all_pictures_and_scores_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import generators.training

    asked: dict[str, Any] = {}

    def train(spec: Any, *, data: Dataset, **_: Any) -> Path:
        asked.update(every=spec.validation.every, pictures=len(data.where(pool="reference")))
        return tmp_path

    monkeypatch.setattr(generators.training, "train_sd", train)
    write_table(folder, "file_name,text\na.png,x\nb.png,y\n")
    done = CliRunner().invoke(main, ["train", "sd", "--data", str(folder), "--out", str(tmp_path / "sd")])
    assert done.exit_code == 0, done.output
    assert asked == {"every": 0, "pictures": 2}
    assert "names no pools" in done.stderr
