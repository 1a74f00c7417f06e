"""Hugging Face data sets of images, read by datasets from a local folder."""

import builtins
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from studies.dataset import DatasetError, read_dataset
from studies.folders import open_imagefolder, prepare_found
from tests.studies.folders.pictures import write_folders

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_an_imagefolder_with_splits_is_shared_out_anew(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_folders(source, ("train/polyp", "train/normal"), each=15)
    write_folders(source, ("test/polyp", "test/normal"), each=5, first=5000)
    with open_imagefolder(str(source)) as found:
        prepare_found(found, tmp_path / "data", source=source, name="source")
    data = read_dataset(tmp_path / "data", verify_images=True)
    assert Counter(record.label for record in data) == {"polyp": 20, "normal": 20}
    assert {record.file_name.split("/")[1] for record in data.where(pool="test")} == {"train", "test"}
    with open_imagefolder(str(source), split="test") as found:
        assert len(found) == 10
    with (
        pytest.raises(DatasetError, match="no split 'dev', only train, test"),
        open_imagefolder(str(source), split="dev"),
    ):
        pass


def test_columns_of_a_table_are_taken_by_name(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "source", ("all",), each=2)
    lines = [
        {"file_name": f"all/all-0{i}.png", "finding": "ab"[i], "caption": f"caption {i}", "patient": i}
        for i in range(2)
    ]
    (source / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with open_imagefolder(str(source), label_column="finding") as found:
        assert [(one.label, one.captions, one.group) for one in found] == [
            ("a", ("caption 0",), "0"),
            ("b", ("caption 1",), "1"),
        ]
    with pytest.raises(DatasetError, match="--label-column"), open_imagefolder(str(source)):
        pass


def test_pictures_inside_a_table_are_written_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folders(tmp_path / "source", ("x",), each=1)
    content = (source / "x" / "x-00.png").read_bytes()
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": content, "path": None}], "label": [1]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
        ),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=table))
    with open_imagefolder("hf:owner/name@v1") as (one,):
        assert (one.label, one.path.suffix, one.path.read_bytes()) == ("yes", ".png", content)


def test_without_the_package_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(DatasetError, match=r"pip install 'promptopt\[datasets\]'"),
        open_imagefolder(str(tmp_path)),
    ):
        pass
