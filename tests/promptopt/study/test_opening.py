"""What a study opens: the phantom of a hospital lies beside the others in the store."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from promptopt.base import files
from promptopt.base.files import file_digest, kept_digests
from promptopt.config.study_file import PhantomSettings, StudyError
from promptopt.run.folder import check_pictures
from promptopt.study.opening import phantom_data


def test_each_hospital_has_a_folder_of_its_own_and_changes_no_other(tmp_path):
    home = phantom_data(PhantomSettings(images=60, size=16), tmp_path)
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    coast = phantom_data(PhantomSettings(images=20, test=20, size=16, hospital="coast"), tmp_path)
    more = phantom_data(PhantomSettings(images=20, test=30, size=16, hospital="coast"), tmp_path)
    assert "coast" in coast.root.name
    assert len({home.root, coast.root, more.root}) == 3
    assert {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()} == before
    assert (len(home), len(coast), len(more)) == (60, 80, 100)
    assert phantom_data(PhantomSettings(images=20, test=20, size=16, hospital="coast"), tmp_path) == coast


def _other_labels(folder: Path) -> None:
    path = folder / "metadata.jsonl"
    path.write_text(path.read_text().replace('"label": "polyp"', '"label": "normal"'))


def _other_picture(folder: Path) -> None:
    first, second = sorted((folder / "images").iterdir())[:2]
    shutil.copy(second, first)


@pytest.mark.parametrize(
    "damage",
    [
        _other_labels,
        _other_picture,
        lambda folder: next((folder / "images").iterdir()).unlink(),
        lambda folder: (folder / "metadata.jsonl").write_bytes(b""),
        lambda folder: os.truncate(next((folder / "images").iterdir()), 9),
    ],
    ids=["labels", "picture", "missing", "empty", "cut"],
)
def test_a_phantom_that_is_not_as_it_was_written_is_made_again(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    settings = PhantomSettings(images=60, size=16)
    first = phantom_data(settings, tmp_path)
    before = {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()}
    damage(first.root)
    assert phantom_data(settings, tmp_path) == first
    assert {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()} == before


def test_digests_are_kept_by_size_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [tmp_path / name for name in "abc"]
    long_ago = time.time() - 1000
    for picture in pictures:
        picture.write_text(picture.name)
        os.utime(picture, (long_ago, long_ago))
    monkeypatch.setattr(files, "_SETTLED", -1.0)  # as if written long ago, by the clock of the disk too
    monkeypatch.setattr(files, "_digests", files.OrderedDict())
    cache = tmp_path / "cache.json"
    found = kept_digests(pictures, cache)
    assert found == [file_digest(picture) for picture in pictures]
    read: list[str] = []
    real = files.hashlib.file_digest

    def counting(stream, algorithm):
        read.append(Path(stream.name).name)
        return real(stream, algorithm)

    monkeypatch.setattr(files.hashlib, "file_digest", counting)
    monkeypatch.setattr(files, "_digests", files.OrderedDict())  # another process
    assert kept_digests(pictures, cache) == found
    assert read == []
    pictures[1].write_text("B")  # the same size, and the same time as before
    os.utime(pictures[1], (long_ago, long_ago))
    monkeypatch.setattr(files, "_digests", files.OrderedDict())
    assert kept_digests(pictures, cache)[1] != found[1]
    assert read == ["b"]
    for rubbish in ("", "[]", "{", '{"a": 3}', "\0"):
        cache.write_text(rubbish)
        monkeypatch.setattr(files, "_digests", files.OrderedDict())
        assert kept_digests(pictures, cache)[0] == found[0]


def test_a_run_names_the_pictures_that_were_changed(tmp_path: Path) -> None:
    then = {f"images/{n}.png": str(n) for n in range(9)}
    check_pictures(tmp_path, then)
    check_pictures(tmp_path, dict(reversed(then.items())))
    now = {**then, "images/3.png": "x", "images/5.png": "y"}
    del now["images/8.png"]
    with pytest.raises(StudyError, match=r"with: images/3\.png, images/5\.png, images/8\.png\. Its trials"):
        check_pictures(tmp_path, now)
    with pytest.raises(StudyError, match=r"4\.png and 4 more"):
        check_pictures(tmp_path, dict.fromkeys(then, "new"))
    assert json.loads((tmp_path / "pictures.json").read_text()) == then
    for content in ("[]", "{", "null"):
        (tmp_path / "pictures.json").write_text(content)
        with pytest.raises(StudyError, match=r"pictures\.json.*Choose another name"):
            check_pictures(tmp_path, then)
