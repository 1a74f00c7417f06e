"""Files and folders that are written whole or not at all, and the locks."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from promptopt.base.errors import PromptoptError
from promptopt.base.files import (
    FileError,
    link_or_copy,
    new_file,
    new_files,
    new_folder,
    sweep,
    writable_folder,
    write_bytes,
    write_json,
    write_text,
)
from promptopt.base.locks import LockedError, hold


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_there_with_the_rights_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    assert write_bytes(tmp_path / "a", b"\0\r\n").read_bytes() == b"\0\r\n"
    assert write_text(tmp_path / "b", "polyp ≥ 5 mm\n").read_bytes() == "polyp ≥ 5 mm\n".encode()
    assert write_text(tmp_path / "c", iter(["one\n", "two\n"])).read_bytes() == b"one\ntwo\n"
    assert write_json(tmp_path / "d", {"b": "é", "a": [1]}, sort_keys=True).read_bytes().endswith(b"}\n")
    assert json.loads((tmp_path / "d").read_text()) == {"a": [1], "b": "é"}
    with new_file(tmp_path / "e") as partial:
        partial.unlink()
        partial.touch(0o600)  # as safetensors does
    assert {_mode(tmp_path / name) for name in "abcde"} == {_mode(tmp_path / "plain")}
    assert _names(tmp_path) == ["a", "b", "c", "d", "e", "plain"]


def test_an_error_leaves_every_old_file_and_no_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("old")
    with pytest.raises(KeyError), new_files([old, new]) as partials:  # noqa: PT012
        partials[0].write_text("half")
        raise KeyError
    with pytest.raises(ValueError, match="JSON"):
        write_json(old, float("nan"), allow_nan=False)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(old, "another")
    assert old.read_text() == "old"
    assert _names(tmp_path) == ["old.csv"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from promptopt.base.files import new_folder
with new_folder(Path(sys.argv[1])) as partial:
    (partial / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "set[1]"
    with new_folder(target) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a").write_text("1")
    with pytest.raises(KeyError), new_folder(target) as partial:  # noqa: PT012
        (partial / "b").write_text("2")
        raise KeyError
    assert _names(target) == ["deep"]
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert _names(target) == ["deep"]
    assert len(_names(target.parent)) == 3  # the half-filled folder and the lock of the dead process
    with new_folder(target) as partial:
        (partial / "c").write_text("3")
    assert _names(target) == ["c"]
    assert _names(target.parent) == ["set[1]"]


def test_a_folder_put_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "from promptopt.base import files; print(files._owner())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    aside = tmp_path / f".set.{dead}-0123abcd.old"
    aside.mkdir()
    (aside / "a").write_text("1")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "set"):
        raise RuntimeError
    assert _names(tmp_path) == ["set"]
    assert (tmp_path / "set" / "a").read_text() == "1"


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    with (
        new_folder(tmp_path / "set"),
        pytest.raises(LockedError, match="another process writes it"),
        new_folder(tmp_path / "set"),
    ):
        pass


@pytest.mark.parametrize("links", [True, False])
def test_link_or_copy_replaces_and_never_writes_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    source, other, target = tmp_path / "source", tmp_path / "other", tmp_path / "new" / "target"
    source.write_text("source")
    other.write_text("other")
    if not links:

        def refused(*_paths: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refused)
    assert link_or_copy(other, target) is not links
    assert link_or_copy(source, target) is not links
    assert link_or_copy(source, target) is not links
    assert (target.read_text(), other.read_text()) == ("source", "other")
    assert target.samefile(source) is links
    assert _names(target.parent) == ["target"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    class OwnError(PromptoptError):
        pass

    (tmp_path / "file").write_text("")
    assert writable_folder(tmp_path / "a" / "b", "the tables").is_dir()
    with pytest.raises(FileError, match=r"file/out: the tables cannot be written \(Not a directory\)\. Give"):
        writable_folder(tmp_path / "file" / "out", "the tables")
    with pytest.raises(OwnError):
        writable_folder(tmp_path / "file" / "out", "the tables", error=OwnError)


_KILLED_AT_A_FILE = """
import os, signal, sys
from pathlib import Path
from promptopt.base.files import new_file, new_folder, scratch
folder = Path(sys.argv[1])
with scratch(), new_folder(folder / "step-00000004"), new_file(folder / "a.png") as partial:
    partial.write_text("half")
    print("ready", flush=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_what_killed_processes_left_goes_with_the_next_file_and_what_living_ones_make_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, temporary = tmp_path / "place", tmp_path / "tmp"
    place.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    command = [sys.executable, "-c", _KILLED_AT_A_FILE, str(place)]
    for _ in range(2):  # each sees what the one before left
        assert subprocess.run([*command, "kill"], check=False, stdout=subprocess.DEVNULL).returncode == -9
    assert len(_names(place)) == 3  # a half file, a half folder, its lock
    assert len(_names(temporary)) == 1
    other = place / ".b.png.ffffff-1-0a1b2c3d.partial"  # of another machine
    other.touch()
    code = "import sys; from pathlib import Path; from promptopt.base.files import scratch, write_text\n"
    code += "write_text(Path(sys.argv[1]) / 'b', '')\nwith scratch(): pass"
    write = [sys.executable, "-c", code, str(place)]
    living = subprocess.Popen([*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert living.stdout is not None
    living.stdout.readline()
    subprocess.run(write, check=True)
    assert len(_names(place)) == 5  # those of the living one, of the other machine, and b
    assert len(_names(temporary)) == 1
    living.communicate()
    subprocess.run(write, check=True)
    assert _names(place) == [other.name, "a.png", "b", "step-00000004"]
    assert not _names(temporary)


@pytest.mark.parametrize("writer", ["stream", "safetensors"])
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path: Path, writer: str) -> None:
    from safetensors import SafetensorError

    target = tmp_path / "weights"
    error: Exception = (
        OSError(28, "No space left on device")
        if writer == "stream"
        else SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    )
    with pytest.raises(OSError, match="No space left") as caught, new_file(target):
        raise error
    assert caught.value.errno == 28
    assert caught.value.filename == str(target)
    with pytest.raises(OSError, match="No space left") as caught, new_folder(target):
        raise error
    assert caught.value.filename == str(target)
    assert not _names(tmp_path)


def test_sweep_takes_unfinished_files_alone(tmp_path: Path) -> None:
    for name in (".prompts.json.0a1b2c3d.partial", "notes.partial", ".lock", "prompts.json"):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert _names(tmp_path) == [".lock", "notes.partial", "prompts.json"]


def test_a_lock_is_for_one_and_its_error_is_the_callers(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with hold(lock):
        with pytest.raises(LockedError, match=r"\.lock: is held by another process\. Wait"), hold(lock):
            pass
        with pytest.raises(PromptoptError, match=r"^mine$"), hold(lock, PromptoptError("mine"), wait=0.05):
            pass
    with hold(lock, remove=True):
        assert lock.exists()
    assert not lock.exists()
