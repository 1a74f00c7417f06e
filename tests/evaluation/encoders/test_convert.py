"""Pickles become safetensors, tensor for tensor; what would run code is never run."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from evaluation import load_encoder
from evaluation.encoders.backbones import build_network
from evaluation.encoders.base import EncoderError
from evaluation.encoders.convert import convert_file, convert_folder
from promptopt.cli.main import main
from tests.evaluation.encoders.small import make_micro_dinov2

NAME = "timm:test_resnet"


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return build_network(NAME, 7).state_dict()


class _Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.trace,)  # type: ignore[return-value]


def test_names_of_another_port_become_the_architectures_own(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    other = {
        f"module._block{i}.{name.rpartition('.')[2]}": tensor
        for i, (name, tensor) in enumerate(state.items())
    }
    torch.save({"state_dict": other, "epoch": 3}, tmp_path / "w.pth")
    done = convert_file(tmp_path / "w.pth", tmp_path / "w.safetensors", like=NAME)
    written = load_file(tmp_path / "w.safetensors")
    assert set(written) == set(state)
    for name, tensor in state.items():
        torch.testing.assert_close(written[name], tensor)
    assert done.source_sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert done.target_sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert load_encoder(f"{NAME}@{tmp_path / 'w.safetensors'}", device="cpu").dim > 0


def test_another_network_is_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    shuffled = dict(reversed(list({f"x{k}": v for k, v in state.items()}.items())))
    torch.save(shuffled, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=f"give the weights of a {NAME}"):
        convert_file(tmp_path / "w.pth", tmp_path / "w.safetensors", like=NAME)
    assert not (tmp_path / "w.safetensors").exists()


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for content in ({"w": torch.zeros(2), "x": _Runs(trace)}, _Runs(trace)):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(EncoderError, match="more than tensors and plain values"):
            convert_file(tmp_path / "w.pth", tmp_path / "w.safetensors")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(_Runs(trace), protocol=2))
    with pytest.raises(EncoderError):
        convert_file(tmp_path / "old.pth", tmp_path / "w.safetensors")
    assert not trace.exists()
    assert not (tmp_path / "w.safetensors").exists()
    pickle.loads(pickle.dumps(_Runs(trace)))  # the trap works
    assert trace.exists()


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no such file"):
        convert_file(tmp_path / "gone.pth", tmp_path / "w.safetensors")
    (tmp_path / "text.bin").write_text("no weights")
    with pytest.raises(EncoderError, match=r"text\.bin"):
        convert_file(tmp_path / "text.bin", tmp_path / "w.safetensors")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="no tensors by name, but a list"):
        convert_file(tmp_path / "list.pt", tmp_path / "w.safetensors")
    with pytest.raises(EncoderError, match=r"must end in \.safetensors"):
        convert_file(tmp_path / "list.pt", tmp_path / "w.bin")


def test_a_transformers_folder(tmp_path: Path) -> None:
    folder = make_micro_dinov2(tmp_path / "old")
    images = [Image.new("RGB", (40, 30), "red")]
    before = load_encoder(folder, device="cpu").encode_images(images)
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(EncoderError, match=f"promptopt convert {folder} "):
        load_encoder(folder)
    convert_folder(folder, tmp_path / "new")
    np.testing.assert_array_equal(load_encoder(tmp_path / "new", device="cpu").encode_images(images), before)
    with pytest.raises(EncoderError, match="holds files"):
        convert_folder(folder, tmp_path / "new")
    (folder / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"neither open_clip_config.json nor"):
        convert_folder(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command_shows_the_hashes(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "w.pth")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    out = CliRunner().invoke(
        main, ["convert", str(tmp_path / "w.pth"), str(tmp_path / "w.safetensors"), "--like", NAME]
    )
    assert out.exit_code == 0, out.output
    assert digest in out.output
    assert hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest() in out.output
    folder = CliRunner().invoke(main, ["convert", str(tmp_path), str(tmp_path / "x"), "--like", NAME])
    assert folder.exit_code == 2
