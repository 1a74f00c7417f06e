"""Digests are hashlib's, files are read once, and a changed file is read again."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from promptopt.base import files
from promptopt.base.files import file_digest, images_below


def old(path: Path, content: bytes) -> Path:
    """A file that was last changed long ago, as far as its own times tell."""
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    return path


def test_digest_is_hashlibs_and_an_unchanged_file_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old(tmp_path / "a", b"content")
    read = []
    real = hashlib.file_digest
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *a: read.append(1) or real(*a))
    now = time.time()
    monkeypatch.setattr(files.time, "time", lambda: now + 60)  # its inode's time cannot be set back
    expected = hashlib.sha256(b"content").hexdigest()
    assert [file_digest(path) for _ in range(3)] == [expected] * 3
    assert len(read) == 1
    old(path, b"contens")  # the same size and modification time; the inode's time moves on
    assert file_digest(path) == hashlib.sha256(b"contens").hexdigest()


def test_a_file_that_has_just_changed_is_always_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"one", b"two", b"six"):
        path.write_bytes(content)
        assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        file_digest(tmp_path / "absent")


def test_images_by_suffix_hidden_ones_passed_over(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpg", "a/notes.txt", ".hidden/d.png", "a/.e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, others = images_below(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/c.jpg", "b.PNG"]
    assert others == 1
