"""Full disks and short memory, in the words of the libraries themselves."""

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from promptopt.base.errors import PromptoptError
from promptopt.base.machine import full_disk, fullest, is_full_disk, is_out_of_memory

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from promptopt.base.machine import full_disk, is_full_disk
try:
    {code}
except Exception as error:
    print(is_full_disk(error), full_disk(error, [{folder!r}]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "open({file!r}, 'wb', buffering=0).write(b'a' * 4096); open({file!r}, 'ab', buffering=0).write(b'a')",
        "import torch, safetensors.torch; safetensors.torch.save_file({{'a': torch.zeros(9999)}}, {file!r})",
        "from PIL import Image; Image.effect_noise((300, 300), 90).save({file!r} + '.png')",
    ],
    ids=["plain", "safetensors", "PIL"],
)
def test_a_writer_that_meets_a_limit_is_understood(code: str, tmp_path: Path) -> None:
    script = FULL.format(code=code.format(file=str(tmp_path / "a")), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"True {tmp_path}: "), done.stdout + done.stderr
    assert "then run the same command again" in done.stdout


def _sqlite() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE a (b)")
        connection.execute("INSERT INTO a VALUES (zeroblob(100000))")


def _sqlalchemy() -> None:
    import sqlalchemy

    with sqlalchemy.create_engine("sqlite://").begin() as connection:
        connection.execute(sqlalchemy.text("PRAGMA max_page_count = 2"))
        connection.execute(sqlalchemy.text("CREATE TABLE a (b)"))
        connection.execute(sqlalchemy.text("INSERT INTO a VALUES (zeroblob(100000))"))


def _wrapped() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
    except OSError as error:
        raise PromptoptError("cannot be written") from error


@pytest.mark.parametrize("fail", [_sqlite, _sqlalchemy, _wrapped])
def test_a_full_disk_is_known_however_it_is_wrapped(fail: Callable[[], None]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        fail()
    assert is_full_disk(caught.value)


def test_other_errors_are_no_full_disk() -> None:
    for error in (
        OSError(errno.EACCES, "Permission denied"),
        ValueError("28"),
        sqlite3.OperationalError("x"),
    ):
        assert not is_full_disk(error)
        assert not is_out_of_memory(error)


def test_the_sentence_names_the_folder(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a.png"))
    assert full_disk(error).startswith(f"{tmp_path}: the disk is full. Free some space")
    assert fullest([tmp_path / "not" / "there", "a\0b"]) == tmp_path
    assert fullest([]) is None


@pytest.mark.slow
def test_the_cpus_allocator_is_understood() -> None:
    """The memory that torch and numpy ask for is more than the process may have."""
    script = (
        "import resource, torch, numpy\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({8 << 30}, {8 << 30}))\n"
        "from promptopt.base.machine import is_out_of_memory\n"
        "for make in (lambda: torch.zeros(1 << 36), lambda: numpy.ones(1 << 36), lambda: bytes(1 << 40)):\n"
        "    try:\n        make()\n"
        "    except (RuntimeError, MemoryError) as error:\n        print(is_out_of_memory(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3, done.stdout + done.stderr
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert is_out_of_memory(RuntimeError("could not create a memory object"))
