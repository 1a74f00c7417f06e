"""An augmentation set whose files were deleted, emptied, cut or swapped: made again, the same to the byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import promptopt.augmentation.run as run_module
from promptopt.augmentation.filters import DUPLICATES
from promptopt.augmentation.journal import Journal
from promptopt.augmentation.results import AugmentationSet
from promptopt.augmentation.run import augment
from promptopt.augmentation.sources import AugmentationError
from tests.promptopt.augmentation.planted import WildGenerator, content, planted

FORMATS = ("imagefolder", "webdataset")
COUNTS = {"red": 12, "other": 8}


class StopError(Exception):
    """Stands for a kill."""


def make(
    folder: Path, out: Path, *, kind: str, chunks: int | None = None, **options: object
) -> AugmentationSet:
    """The set; cut off before the journal has more than so many chunks."""
    sources, reference = planted(folder)
    whole, left = Journal.add, [chunks]

    def add(journal: Journal, line: dict[str, object]) -> None:
        if left[0] == 0:
            raise StopError
        left[0] = None if left[0] is None else left[0] - 1
        whole(journal, line)

    Journal.add = add  # type: ignore[method-assign,assignment]
    try:
        return augment(
            sources, out, reference=reference, open_generator=lambda _: WildGenerator(), counts=COUNTS,
            filters=(DUPLICATES,), format=kind, shard_size=3, **options,  # type: ignore[arg-type]
        )  # fmt: skip
    finally:
        Journal.add = whole  # type: ignore[method-assign]


@pytest.fixture(scope="module", params=FORMATS)
def sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A folder with the finished set and one that was cut off within its second class."""
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "CHUNK", 4)
        make(folder, folder / "whole", kind=request.param)
        with pytest.raises(StopError):
            make(folder, folder / "cut", kind=request.param, chunks=5)
    return request.param, folder


def _images(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.rglob("*") if ".augment" not in p.parts and (".png" in p.name or ".tar" in p.name)
    )


def _work(folder: Path, name: str) -> Path:
    return folder / ".augment" / name


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _flipped(content: bytes) -> bytes:
    return content[:700] + bytes([content[700] ^ 1]) + content[701:]


def _swapped(folder: Path) -> None:
    first, second = _images(folder)[:2]
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)


def _middle(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _twice(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, lines[-1]])


def _in_between(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([lines[0], *lines])


def _counted_more(content: bytes) -> bytes:
    return content.replace(b'"tried":4', b'"tried":3', 1)


# What may happen to the files of a set, finished or not
IMAGES: dict[str, Callable[[Path], None]] = {
    "an image deleted": lambda f: _images(f)[1].unlink(),
    "all deleted": lambda f: [p.unlink() for p in _images(f)],  # type: ignore[func-returns-value]
    "one emptied": lambda f: os.truncate(_images(f)[0], 0),
    "the last one cut": lambda f: os.truncate(_images(f)[-1], 100),
    "zeros behind a cut": lambda f: _change(_images(f)[0], lambda c: c[:600].ljust(len(c), b"\0")),
    "a bit": lambda f: _change(_images(f)[0], _flipped),
    "two swapped": _swapped,
}
# To what an unfinished one keeps beside them
NOTES: dict[str, Callable[[Path], None]] = {
    "features cut": lambda f: _change(_work(f, "kept-0.f16"), _middle),
    "features emptied": lambda f: _change(_work(f, "kept-0.f16"), lambda c: b""),
    "features zeroed": lambda f: _change(_work(f, "kept-1.f16"), lambda c: b"\0" * len(c)),
    "features deleted": lambda f: _work(f, "kept-0.f16").unlink(),
    "a line twice at the end": lambda f: _change(_work(f, "journal.jsonl"), _twice),
    "a line twice": lambda f: _change(_work(f, "journal.jsonl"), _in_between),
    "a line edited": lambda f: _change(_work(f, "journal.jsonl"), _counted_more),
    "a line cut": lambda f: _change(_work(f, "journal.jsonl"), lambda c: c[:-40]),
    "a journal of zeros": lambda f: _change(_work(f, "journal.jsonl"), lambda c: b"\0" * len(c)),
    "no journal": lambda f: _work(f, "journal.jsonl").unlink(),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*IMAGES, *NOTES])
def test_an_unfinished_set_ends_as_an_undamaged_one(
    damage: str, sets: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = sets
    out = Path(shutil.copytree(folder / "cut", tmp_path / "set"))
    {**IMAGES, **NOTES}[damage](out)
    monkeypatch.setattr(run_module, "CHUNK", 4)
    made = make(folder, out, kind=kind)
    assert content(out) == content(folder / "whole")
    assert (made.images, made.short) == (20, 0)


@pytest.mark.parametrize("damage", IMAGES)
def test_a_finished_set_with_holes_is_made_again_and_says_so(
    damage: str, sets: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = sets
    out = Path(shutil.copytree(folder / "whole", tmp_path / "set"))
    IMAGES[damage](out)
    monkeypatch.setattr(run_module, "CHUNK", 4)
    said: list[str] = []
    made = make(folder, out, kind=kind, on_warning=said.append)
    assert made.generated >= 20
    assert content(out) == content(folder / "whole")
    assert "missing or not as written; the set is made again" in said[0]


def test_a_whole_set_is_left_alone_and_its_checksums_are_those_of_coreutils(sets: tuple[str, Path]) -> None:
    kind, folder = sets
    assert make(folder, folder / "whole", kind=kind).generated == 0
    command = ["sha256sum", "--check", "--strict", "--quiet", "checksums.sha256"]
    assert subprocess.run(command, cwd=folder / "whole", check=False).returncode == 0


def test_what_the_journal_lists_is_on_the_disk_before_it(
    sets: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = sets
    synced: set[tuple[int, int]] = set()
    real, listed = os.fsync, []

    def fsync(handle: int) -> None:
        facts = os.fstat(handle)
        synced.add((facts.st_ino, facts.st_size))
        real(handle)

    def add(journal: Journal, line: dict[str, object]) -> None:
        files = {str(piece[0]) for piece in line["pieces"]}  # type: ignore[attr-defined]
        for name in files:
            path = tmp_path / "set" / name
            path = path if path.exists() else path.with_name(f".{path.name}.partial")
            assert (path.stat().st_ino, path.stat().st_size) in synced
            listed.append(name)
        whole(journal, line)

    whole = Journal.add
    monkeypatch.setattr(os, "fsync", fsync)
    sources, reference = planted(folder)
    monkeypatch.setattr(Journal, "add", add)
    augment(
        sources, tmp_path / "set", reference=reference, open_generator=lambda _: WildGenerator(),
        counts=COUNTS, filters=(DUPLICATES,), format=kind, shard_size=3,  # type: ignore[arg-type]
    )  # fmt: skip
    assert listed


@pytest.mark.parametrize("text", ["", "[]", "{", "\0\0"])
def test_damaged_settings_are_refused_by_name(text: str, sets: tuple[str, Path], tmp_path: Path) -> None:
    kind, folder = sets
    out = Path(shutil.copytree(folder / "cut", tmp_path / "set"))
    _work(out, "settings.json").write_text(text)
    with pytest.raises(AugmentationError, match=r"settings\.json: cannot be read .* remove the folder"):
        make(folder, out, kind=kind)
    done = Path(shutil.copytree(folder / "whole", tmp_path / "done"))
    (done / "augmentation.json").write_text(text)
    with pytest.raises(AugmentationError, match=r"augmentation\.json: cannot be read .* remove the folder"):
        make(folder, done, kind=kind)


@pytest.mark.parametrize(
    "damage", [('"kept": 12', '"kept": 13'), ('"kept"', '"kepu"'), ('"classes"', '"clasres"')]
)
def test_a_bit_in_the_summary_of_a_finished_set_is_refused_by_name(
    damage: tuple[str, str], sets: tuple[str, Path], tmp_path: Path
) -> None:
    kind, folder = sets
    done = Path(shutil.copytree(folder / "whole", tmp_path / "done"))
    text = (done / "augmentation.json").read_text()
    assert damage[0] in text
    (done / "augmentation.json").write_text(text.replace(*damage, 1))
    with pytest.raises(AugmentationError, match=r"augmentation\.json: .*damaged.*another"):
        make(folder, done, kind=kind)


def test_swapped_real_pictures_are_another_set(sets: tuple[str, Path], tmp_path: Path) -> None:
    kind, folder = sets
    out = Path(shutil.copytree(folder / "cut", tmp_path / "set"))
    shutil.copytree(folder / "run", tmp_path / "run")
    data = Path(shutil.copytree(folder / "data", tmp_path / "data"))
    picture = next(data.rglob("*.png"))
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)
    assert json.loads(_work(out, "settings.json").read_text())["pictures"]
    with pytest.raises(AugmentationError, match="pictures: "):
        make(tmp_path, out, kind=kind)
