"""An open_clip folder as an encoder: offline, safe, the same rows in any company."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from evaluation.encoders._batches import computed_on
from evaluation.encoders.base import EncoderError, TextEncoder, feature_key
from evaluation.encoders.load import load_encoder
from evaluation.encoders.open_clip import OpenClipEncoder, build_open_clip, save_open_clip
from tests.evaluation.conftest import MICRO_CONFIG


def pictures(count: int, *, size: tuple[int, int] = (40, 32), seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(count)
    ]


@pytest.fixture
def copy(micro_clip_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(micro_clip_folder, tmp_path / "clip"))


def test_same_features_as_open_clip_itself(micro_clip: TextEncoder, micro_clip_folder: Path) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{micro_clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{micro_clip_folder}")
    model.eval()
    images, texts = pictures(3), ["a photo of polyps", "normal mucosa"]
    with torch.inference_mode():
        image_features = model.encode_image(torch.stack([transform(image) for image in images])).numpy()
        text_features = model.encode_text(tokenizer(texts)).numpy()
    np.testing.assert_allclose(micro_clip.encode_images(images), image_features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(micro_clip.encode_texts(texts), text_features, rtol=1e-4, atol=1e-5)
    assert micro_clip.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert micro_clip.dim == 16
    assert micro_clip.context_length == 12


def test_a_row_does_not_depend_on_its_company(micro_clip: TextEncoder) -> None:
    images = pictures(11)
    together = micro_clip.encode_images(images)
    alone = np.concatenate([micro_clip.encode_images([image]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(micro_clip.encode_images(images[::-1])[::-1], together, atol=1e-6)
    assert together.std(axis=0).min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
    ids=["cuda", "onednn", "python"],
)
def test_where_memory_runs_out_half_as_many_are_encoded_at_a_time(
    micro_clip_folder: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    images = pictures(11)
    encoder = OpenClipEncoder.from_folder(micro_clip_folder, device="cpu", batch_size=8)
    whole = encoder.encode_images(images)
    real, room, seen = encoder._model.encode_image, 3, []

    def short(batch: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(len(batch))
        if len(batch) > room:
            raise fault
        return real(batch, **options)

    monkeypatch.setattr(encoder._model, "encode_image", short)
    np.testing.assert_allclose(encoder.encode_images(images), whole, atol=1e-6)
    assert seen == [8, 4, *[2] * 6]
    room = 0
    with pytest.raises(EncoderError, match="memory ran out with one image a pass"):
        encoder.encode_images(images)


def test_batch_size_changes_nothing(micro_clip_folder: Path) -> None:
    images = pictures(5)
    small = OpenClipEncoder.from_folder(micro_clip_folder, device="cpu", batch_size=1)
    large = OpenClipEncoder.from_folder(micro_clip_folder, device="cpu", batch_size=16)
    np.testing.assert_allclose(small.encode_images(images), large.encode_images(images), atol=1e-5)
    assert small.fingerprint == large.fingerprint


def test_features_are_kept_under_what_rounds_them(
    micro_clip: TextEncoder, micro_clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = OpenClipEncoder.from_folder(micro_clip_folder, device="cpu")
    assert feature_key(one) == one.fingerprint
    other = OpenClipEncoder.from_folder(micro_clip_folder, device="cpu", batch_size=3)
    assert feature_key(other) == f"{one.fingerprint} batch=3"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert computed_on(torch.device("cpu"), None) == "threads=4"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    assert computed_on(torch.device("cuda"), None).startswith("gpu=NVIDIA L4;cuda=")


def test_nothing_in_gives_nothing_out(micro_clip: TextEncoder) -> None:
    assert micro_clip.encode_images([]).shape == (0, 16)
    assert micro_clip.encode_texts([]).shape == (0, 16)


def test_words_of_its_own_vocabulary_matter(micro_clip: TextEncoder) -> None:
    features = micro_clip.encode_texts(["a small polyp", "a large polyp", "a small polyp"])
    np.testing.assert_allclose(features[0], features[2], atol=1e-6)
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_tokens_are_counted_before_the_cut_and_a_cut_is_said(micro_clip: TextEncoder) -> None:
    long = " ".join(["red"] * 30)
    assert micro_clip.count_tokens(long) == 32
    assert micro_clip.count_tokens("a red polyp") == 5
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than the 12 tokens.*the longest has 32"):
        micro_clip.encode_texts(["a polyp", long])


def test_built_in_vocabulary_without_a_tokenizer_folder(tmp_path: Path) -> None:
    config = {**MICRO_CONFIG, "text_cfg": {**MICRO_CONFIG["text_cfg"], "vocab_size": 49408, "width": 16}}
    encoder = load_encoder(
        save_open_clip(tmp_path / "m", build_open_clip(config, seed=1), config, None), device="cpu"
    )
    assert encoder.count_tokens("a photo of a polyp") >= 7
    assert encoder.encode_texts(["a photo of a polyp"]).shape == (1, 16)


def test_half_precision_on_disk_is_computed_in_float32(tmp_path: Path, tokenizer_folder: Path) -> None:
    model = build_open_clip(MICRO_CONFIG, seed=0)
    full = save_open_clip(tmp_path / "full", model, MICRO_CONFIG, tokenizer_folder)
    half = save_open_clip(tmp_path / "half", model, MICRO_CONFIG, tokenizer_folder, dtype=torch.float16)
    weights = "open_clip_model.safetensors"
    assert (half / weights).stat().st_size < 0.6 * (full / weights).stat().st_size
    a, b = (load_encoder(folder, device="cpu").encode_images(pictures(2)) for folder in (full, half))
    assert b.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=0.02)


def test_preprocessing_is_the_folders_own_and_recorded(tmp_path: Path, tokenizer_folder: Path) -> None:
    policy: dict[str, Any] = {"resize_mode": "squash", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    model = build_open_clip(MICRO_CONFIG, seed=0, preprocess=policy)
    squash = load_encoder(save_open_clip(tmp_path / "s", model, MICRO_CONFIG, tokenizer_folder), device="cpu")
    crop = load_encoder(
        save_open_clip(tmp_path / "c", model, MICRO_CONFIG, tokenizer_folder, preprocess={}), device="cpu"
    )
    assert isinstance(squash, OpenClipEncoder)
    assert isinstance(crop, OpenClipEncoder)
    assert squash.preprocessing["resize_mode"] == "squash"
    assert tuple(squash.preprocessing["mean"]) == (0.5, 0.5, 0.5)
    assert crop.preprocessing["resize_mode"] == "shortest"
    assert squash.fingerprint != crop.fingerprint
    # the ends of a wide frame: unseen under the default policy, seen when squashed
    wide = Image.new("RGB", (96, 32), "gray")
    marked = wide.copy()
    marked.paste("red", (0, 0, 20, 32))
    assert np.abs(np.diff(crop.encode_images([wide, marked]), axis=0)).max() < 1e-6
    assert np.abs(np.diff(squash.encode_images([wide, marked]), axis=0)).max() > 1e-3


def test_fingerprint_follows_weights_and_tokenizer_not_the_place(
    micro_clip: TextEncoder, copy: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    assert load_encoder(copy, device="cpu").fingerprint == micro_clip.fingerprint
    other = save_open_clip(
        tmp_path / "o", build_open_clip(MICRO_CONFIG, seed=7), MICRO_CONFIG, tokenizer_folder
    )
    assert load_encoder(other, device="cpu").fingerprint != micro_clip.fingerprint
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"snare"', '"loop"'))
    assert load_encoder(copy, device="cpu").fingerprint != micro_clip.fingerprint


def test_a_transformers_text_tower_is_built_from_the_folder(tmp_path: Path, tokenizer_folder: Path) -> None:
    from open_clip.model import CustomTextCLIP
    from transformers import BertConfig

    BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ).save_pretrained(tmp_path)
    text = {
        "hf_model_name": str(tmp_path),
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "context_length": 12,
    }
    text |= {"hf_pooler_type": "cls_last_hidden_state_pooler"}
    config = {**MICRO_CONFIG, "text_cfg": text}
    model = CustomTextCLIP(**config)
    published = {**config, "text_cfg": {**text, "hf_model_name": "nobody/not-on-this-machine"}}
    folder = save_open_clip(tmp_path, model, published, tokenizer_folder)
    encoder = load_encoder(folder, device="cpu")
    assert encoder.encode_texts(["a red polyp"]).shape == (1, 16)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickles_are_refused_with_the_remedy(copy: Path, name: str) -> None:
    (copy / "open_clip_model.safetensors").rename(copy / name)
    with pytest.raises(EncoderError, match=rf"{name}.*safetensors"):
        load_encoder(copy)


def test_safetensors_win_over_a_pickle_beside_them(copy: Path, micro_clip: TextEncoder) -> None:
    (copy / "open_clip_pytorch_model.bin").write_bytes(b"not a pickle at all")
    assert load_encoder(copy, device="cpu").fingerprint == micro_clip.fingerprint


def test_errors_name_the_file_and_the_remedy(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="absent: no such folder"):
        load_encoder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"no open_clip_config\.json"):
        load_encoder(tmp_path / "empty")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 48
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(
        EncoderError, match=r"does not load into the model described in open_clip_config\.json"
    ):
        load_encoder(copy)
    del config["model_cfg"]["text_cfg"]
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="lacks 'text_cfg'"):
        load_encoder(copy)
    (copy / "open_clip_config.json").write_text("{")
    with pytest.raises(EncoderError, match="not JSON"):
        load_encoder(copy)


def test_missing_tokenizer_and_remote_code_are_refused(copy: Path) -> None:
    path = copy / "open_clip_config.json"
    config = json.loads(path.read_text())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(EncoderError, match="no usable tokenizer"):
        load_encoder(copy)
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    path.write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="trust_remote_code"):
        load_encoder(copy)


def test_registry_addresses_are_checked_before_anything_is_fetched() -> None:
    with pytest.raises(EncoderError, match="open_clip:MODEL/TAG"):
        load_encoder("open_clip:ViT-B-32")
    with pytest.raises(EncoderError, match="no model 'ViT-Z-99'"):
        load_encoder("open_clip:ViT-Z-99/openai")
    with pytest.raises(EncoderError, match=r"its tags: .*laion2b_s34b_b79k"):
        load_encoder("open_clip:ViT-B-32/nonsense")


def test_hub_model_is_pinned_and_no_pickle_is_asked_for(
    micro_clip_folder: Path, micro_clip: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(repository=repository, revision=revision, patterns=allow_patterns)
        return str(micro_clip_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    encoder = load_encoder("hf:owner/name@abc123", device="cpu")
    assert (asked["repository"], asked["revision"]) == ("owner/name", "abc123")
    assert not any(pattern.endswith((".bin", ".pt", ".pth", "*")) for pattern in asked["patterns"])
    assert encoder.uri == "hf:owner/name@abc123"
    assert encoder.fingerprint == micro_clip.fingerprint
    with pytest.raises(EncoderError, match="two revisions"):
        load_encoder("hf:owner/name@abc", revision="def")
    with pytest.raises(EncoderError, match="owner/name"):
        load_encoder("hf:name")
    with pytest.raises(EncoderError, match="a revision"):
        load_encoder(micro_clip_folder, revision="abc")


def test_embedded_encoder_says_when_it_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("evaluation.encoders.load.EMBEDDED_CLIP", tmp_path / "clip")
    with pytest.raises(EncoderError, match="has not been built"):
        load_encoder("embedded")


def test_building_a_model_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    a, b = (build_open_clip(MICRO_CONFIG, seed=3).state_dict() for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_importing_the_package_loads_no_torch() -> None:
    code = (
        "import sys, evaluation, evaluation.encoders; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
