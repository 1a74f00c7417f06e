"""DINOv2 folders: the class token, the whole frame, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import load_encoder
from evaluation.encoders.base import EncoderError
from evaluation.encoders.transformers_model import TransformersEncoder
from tests.evaluation.encoders.small import make_micro_dinov2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_micro_dinov2(tmp_path_factory.mktemp("dinov2"))


def test_the_class_token_of_the_resized_frame(folder: Path) -> None:
    from transformers import Dinov2Model

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    batch = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1))[None]
    with torch.inference_mode():
        tokens = Dinov2Model.from_pretrained(folder).eval()(pixel_values=batch).last_hidden_state
    row = load_encoder(folder, device="cpu").encode_images([image])
    np.testing.assert_allclose(row, tokens[:, 0].numpy(), atol=1e-5)


def test_the_ends_of_a_wide_frame_are_seen(folder: Path) -> None:
    wide = np.zeros((64, 256, 3), dtype=np.uint8)
    other = wide.copy()
    other[:, :32] = 255
    rows = load_encoder(folder, device="cpu").encode_images([Image.fromarray(wide), Image.fromarray(other)])
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_addresses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    local = load_encoder(folder, device="cpu")
    for uri in (f"dinov2:{folder}", "dinov2:facebook/dinov2-base", "hf:facebook/dinov2-base@main"):
        encoder = load_encoder(uri, device="cpu")
        assert (encoder.uri, encoder.fingerprint) == (uri, local.fingerprint)
        assert isinstance(encoder, TransformersEncoder)
    assert {name for name, _, _ in asked} == {"facebook/dinov2-base"}
    assert asked[-1][1] == "main"
    assert not any(pattern.endswith((".bin", ".pt")) for _, _, patterns in asked for pattern in patterns)


def test_the_processors_policy_changes_the_fingerprint(tmp_path: Path, folder: Path) -> None:
    other = make_micro_dinov2(tmp_path)
    before = load_encoder(other, device="cpu").fingerprint
    assert before == load_encoder(folder, device="cpu").fingerprint
    processor = {"crop_size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (other / "preprocessor_config.json").write_text(json.dumps(processor))
    encoder = load_encoder(other, device="cpu")
    assert encoder.fingerprint != before
    assert encoder.preprocessing["size"] == [28, 28]  # type: ignore[attr-defined]
    (other / "preprocessor_config.json").write_text(json.dumps({"crop_size": 30}))
    with pytest.raises(EncoderError, match="crop_size is 30, not a multiple of the patch size 14"):
        load_encoder(other, device="cpu")


def test_bad_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match="write dinov2:owner/name"):
        load_encoder("dinov2:nowhere")
    folder = make_micro_dinov2(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"no model.safetensors; pytorch_model.bin is a pickle"):
        load_encoder(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(EncoderError, match="does not load"):
        load_encoder(folder)
    small = make_micro_dinov2(tmp_path / "b", num_hidden_layers=1)
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(EncoderError, match="lacks"):
        load_encoder(small)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(EncoderError, match=r"cannot be downloaded \(offline\)"):
        load_encoder("dinov2:facebook/dinov2-base")
