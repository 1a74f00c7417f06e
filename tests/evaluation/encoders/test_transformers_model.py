"""Image models of transformers besides DINOv2: which feature is taken, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import load_encoder
from evaluation.encoders.base import EncoderError
from tests.evaluation.encoders.small import make_micro_dinov2, make_micro_vit

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def pixels(encoder: Any) -> torch.Tensor:
    batch: torch.Tensor = encoder._prepare(IMAGE)[None]
    return batch


def test_the_pooled_output_where_the_weights_have_it_else_the_class_token(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import ViTModel

    folder = make_micro_vit(tmp_path)
    encoder: Any = load_encoder(f"transformers:{folder}", device="cpu")
    assert encoder.preprocessing["size"] == [32, 32]  # the configuration's, where no processor says it
    with torch.inference_mode():
        given = ViTModel.from_pretrained(folder).eval()(pixels(encoder))
    np.testing.assert_allclose(encoder.encode_images([IMAGE]), given.pooler_output.numpy(), atol=1e-5)
    file = folder / "model.safetensors"
    state = {k: v for k, v in load_file(file).items() if not k.startswith("pooler.")}
    save_file(state, file, {"format": "pt"})
    without = load_encoder(folder, device="cpu")  # the same without the prefix
    rows = without.encode_images([IMAGE])
    np.testing.assert_allclose(rows, given.last_hidden_state[:, 0].numpy(), atol=1e-5)
    assert without.fingerprint != encoder.fingerprint


def test_the_image_side_of_a_clip(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    side = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPConfig(
            text_config={**side, "vocab_size": 100},
            vision_config={**side, "image_size": 32, "patch_size": 16},
            projection_dim=24,
        )
        CLIPModel(config).save_pretrained(tmp_path)
    encoder: Any = load_encoder(f"transformers:{tmp_path}", device="cpu")
    assert (encoder.dim, encoder.preprocessing["size"]) == (24, [32, 32])
    model = CLIPModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        pooled = model.vision_model(pixel_values=pixels(encoder)).pooler_output
        expected = model.visual_projection(pooled).numpy()
    np.testing.assert_allclose(encoder.encode_images([IMAGE]), expected, atol=1e-5)


def test_a_convolutional_network_is_averaged_over_its_places(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ResNetModel(config).save_pretrained(tmp_path)
    encoder: Any = load_encoder(f"transformers:{tmp_path}", device="cpu")
    with torch.inference_mode():
        places = ResNetModel.from_pretrained(tmp_path).eval()(pixels(encoder)).last_hidden_state
    np.testing.assert_allclose(encoder.encode_images([IMAGE]), places.mean(dim=(2, 3)).numpy(), atol=1e-5)


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_micro_vit(tmp_path)
    asked: list[Any] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any(pattern.endswith(".bin") for pattern in allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    for uri in ("transformers:owner/vit", "transformers:hf:owner/vit@v1", "hf:owner/vit@v1"):
        assert load_encoder(uri, device="cpu").uri == uri
    assert asked[0] == ("owner/vit", None)
    assert set(asked[1:]) == {("owner/vit", "v1")}
    encoder = load_encoder("transformers:owner/vit", device="cpu", revision="v2")
    assert (encoder.uri, asked[-1]) == ("transformers:owner/vit@v2", ("owner/vit", "v2"))
    with pytest.raises(EncoderError, match="a revision"):
        load_encoder(f"transformers:{folder}", revision="v2")


def test_what_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(EncoderError, match="a bert model reads input_ids, not images"):
        load_encoder(f"transformers:{tmp_path / 'bert'}")
    vit = make_micro_vit(tmp_path / "vit")
    with pytest.raises(EncoderError, match=r"no config.json with model_type 'dinov2'"):
        load_encoder(f"dinov2:{vit}")
    (vit / "preprocessor_config.json").write_text('{"size": {"height": 48, "width": 48}}')
    with pytest.raises(EncoderError, match="does not encode an image of 48 x 48 pixels"):
        load_encoder(vit)
    (make_micro_dinov2(tmp_path / "d") / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(EncoderError, match=r"does not load into the model of config.json"):
        load_encoder(tmp_path / "d")
