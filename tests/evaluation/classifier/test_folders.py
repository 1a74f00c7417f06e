"""Labeled images on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import ClassifierError
from evaluation.classifier.folders import (
    prepared_files,
    refuse_copies,
    split_synthetic,
    synthetic_files,
)
from studies.phantom import write_phantom


def fill(root: Path, label: str, n: int, *, start: int = 0) -> None:
    (root / label / "deep").mkdir(parents=True)
    for i in range(n):
        Image.new("RGB", (8, 8), (start + i, 0, 0)).save(root / label / "deep" / f"{i}.png")


def test_subfolders_are_labels(tmp_path):
    fill(tmp_path, "polyp", 4)
    fill(tmp_path, "normal", 4, start=50)
    (tmp_path / "polyp" / "copy.png").write_bytes((tmp_path / "polyp" / "deep" / "0.png").read_bytes())
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    files = synthetic_files(tmp_path)
    assert len(files) == 9
    assert set(files.labels) == {"normal", "polyp"}
    assert len(set(files.groups)) == 8  # the copy is one group with its original
    first, second = split_synthetic(files, share=0.5, seed=0)
    assert set(first.groups).isdisjoint(second.groups)
    assert set(second.labels) == {"normal", "polyp"}
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(ClassifierError, match=r"loose\.png.*without a label"):
        synthetic_files(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ClassifierError, match="no such folder"):
        synthetic_files(tmp_path / "gone")
    with pytest.raises(ClassifierError, match="no image in any subfolder"):
        synthetic_files(tmp_path)


def test_prepared_sets_keep_their_pools(tmp_path):
    data = write_phantom(tmp_path / "set", images=30, size=16)
    files = synthetic_files(tmp_path / "set", target="category")
    assert files == prepared_files(data, target="category")
    first, second = split_synthetic(files)
    assert set(second.pools) == {"test"}
    assert "test" not in first.pools
    assert len(first) + len(second) == 30
    assert set(prepared_files(data).labels) >= {"polyp"}
    images = files.labeled(np.zeros((30, 2)))
    assert images.labels == files.labels
    kept = files.of_classes(["polyps"])
    assert set(kept.labels) == {"polyps"}


def test_a_copied_file_is_refused_under_any_name(tmp_path):
    fill(tmp_path / "a", "polyp", 3)
    fill(tmp_path / "b", "polyp", 3, start=100)
    train, test = synthetic_files(tmp_path / "a"), synthetic_files(tmp_path / "b")
    refuse_copies({"real_train": train}, {"real_test": test})
    copy = tmp_path / "b" / "polyp" / "renamed.png"
    copy.write_bytes((tmp_path / "a" / "polyp" / "deep" / "1.png").read_bytes())
    with pytest.raises(ClassifierError, match=r"renamed\.png.*real_test.*1\.png"):
        refuse_copies({"real_train": train}, {"real_test": synthetic_files(tmp_path / "b")})
