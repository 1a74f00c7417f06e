"""Folders for images that nobody keeps: they go, also those of a process that was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from generators.making.scratch import PREFIX, scratch_folder

_HOLDS = """
import sys
from pathlib import Path
from generators.making.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "ab").mkdir()
    (folder / "ab" / "picture.png").write_bytes(b"png")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that has a scratch folder there, and its folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_killed_process_leaves_nothing_for_long(
    other: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    process, left = other
    process.kill()
    process.wait()
    assert (left / "ab" / "picture.png").exists()
    with scratch_folder(tmp_path) as own:
        assert own.is_dir()
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_stays_and_so_does_what_has_another_name(
    other: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    _, used = other
    (tmp_path / "ab").mkdir()
    (tmp_path / f"{PREFIX}notes.txt").write_text("mine")
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert len({first, second, used}) == 3
        assert all((folder).is_dir() for folder in (first, second, used))
    assert (used / "ab" / "picture.png").exists()
    assert (tmp_path / "ab").is_dir()
    assert (tmp_path / f"{PREFIX}notes.txt").read_text() == "mine"


def test_one_left_by_an_earlier_version_goes_too(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}ahdm8kp4" / "ea").mkdir(parents=True)
    with scratch_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
