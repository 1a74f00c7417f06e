"""``python -m evaluation.training``."""

from pathlib import Path

import pytest

from evaluation.training.__main__ import main
from studies.dataset import Dataset


def test_a_judge_is_trained_from_the_command_line(
    squares: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["steps=2", "image_size=32", "widths=[4, 4, 4, 8]", "hidden=8", "batch_size=8"]
    changes = [word for change in sets for word in ("--set", change)]
    out = tmp_path / "judge"
    assert main(["judge", "judge", "--data", str(squares.root), "--out", str(out), *changes]) == 0
    shown = capsys.readouterr().out
    assert "judge 2/2 loss" in shown
    assert "images/s" in shown
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip", "judge"], "for 'judge', not for 'clip'"),
        (["judge", "judge", "--tokenizer", "x"], "belong to clip"),
        (["clip", "clip-finetune"], "give the encoder to start from"),
        (["clip", "clip-finetune", "--init", "/does/not/exist"], "/does/not/exist"),
        (["judge", "nothing"], "recipes that ship"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    arguments: list[str], message: str, squares: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--data", str(squares.root), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_a_folder_without_a_data_set_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "judge", "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "metadata.jsonl" in capsys.readouterr().err
