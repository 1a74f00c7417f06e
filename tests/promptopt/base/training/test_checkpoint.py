"""Checkpoints: whole or not at all, and none that is not as it was written is ever loaded."""

import logging
from pathlib import Path

import pytest
import torch

from promptopt.base.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, tensors={"a": torch.full((4,), step)}, state={"x": step})
    return tmp_path


def test_the_newest_of_the_last_two_is_loaded(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000003"]
    newest = load_checkpoint(folder)
    assert newest is not None
    assert (newest.step, newest.state, newest.tensors["a"].tolist()) == (3, {"x": 3}, [3, 3, 3, 3])
    assert load_checkpoint(folder / "none") is None


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip_last_byte(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def flip_first_byte(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 0x40]) + content[1:])


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "sha256.json"])
@pytest.mark.parametrize("spoil", [cut_short, flip_last_byte, flip_first_byte, Path.unlink])
def test_a_spoilt_checkpoint_is_passed_over_for_the_last_whole_one(
    name: str, spoil: object, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(folder / "step-00000003" / name)  # type: ignore[operator]
    (folder / ".step-00000009-1").mkdir()
    with caplog.at_level(logging.WARNING):
        kept = load_checkpoint(folder)
    assert kept is not None
    assert (kept.step, kept.state, kept.tensors["a"].tolist()) == (2, {"x": 2}, [2, 2, 2, 2])
    assert "step-00000003: damaged" in caplog.text


def test_another_counter_in_the_state_is_noticed(folder: Path) -> None:
    state = folder / "step-00000003" / "state.json"
    state.write_text(state.read_text().replace('"x": 3', '"x": 7'))
    kept = load_checkpoint(folder)
    assert kept is not None
    assert kept.step == 2


def test_a_checkpoint_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, tensors={"a": torch.zeros(1)}, state={})
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path, 2, tensors={"a": torch.zeros(1)}, state={"loss": float("nan")})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
