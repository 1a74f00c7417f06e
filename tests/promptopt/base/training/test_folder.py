"""The folder of a training: one at a time, with the settings it was begun with, its damage seen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import alone, claim, digests, finished, held, write_json

_HOLDER = """
import sys
from pathlib import Path
from promptopt.base.training.folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"

    @alone
    def train(*, out: Path) -> str:
        return "trained"

    command = [sys.executable, "-c", _HOLDER, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match=r"out: another training writes there\. Wait"):
            train(out=out)
        other.kill()
    assert train(out=out) == "trained"
    assert list(out.iterdir()) == []


def test_the_processes_of_one_launch_share_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with held(tmp_path):
            assert (tmp_path / ".lock").exists()


def test_a_training_goes_on_with_the_settings_it_was_begun_with(tmp_path: Path) -> None:
    claim(tmp_path / "stage", {"lr": 0.1, "data": {"size": (1, 2)}})
    claim(tmp_path / "stage", {"lr": 0.1, "data": {"size": (1, 2)}, "of a later version": 1})
    with pytest.raises(TrainingError, match=r"another recipe.*\(data\.size, lr\).*remove .*stage"):
        claim(tmp_path / "stage", {"lr": 0.2, "data": {"size": (1, 3)}})


def test_a_result_is_finished_while_its_files_are_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report, weights = tmp_path / "report.json", tmp_path / "out" / "a" / "w.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    assert not finished(report, tmp_path / "out")
    write_json(report, {"files": digests(tmp_path / "out", "**/*.safetensors")})
    assert list(json.loads(report.read_text())["files"]) == ["a/w.safetensors"]
    assert finished(report, tmp_path / "out")
    weights.write_bytes(b"weightz")
    assert not finished(report, tmp_path / "out")
    assert "w.safetensors has other content than was written" in caplog.text
    weights.unlink()
    assert not finished(report, tmp_path / "out")
    assert "w.safetensors is missing" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_note_that_is_damaged_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text(content)
    with pytest.raises(TrainingError, match=r"stage\.json: .*Remove"):
        claim(tmp_path, {"lr": 0.1})
