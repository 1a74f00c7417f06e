"""The large encoders at their true size and in their true files, with random weights: only the values of the
published weights are missing."""

import hashlib
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import load_encoder
from evaluation.encoders.base import EncoderError, TextEncoder
from evaluation.encoders.convert import convert_folder
from evaluation.encoders.open_clip import OpenClipEncoder

IMAGES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8))
    for i, (w, h) in enumerate([(300, 260), (720, 576)])
]

BIOMEDCLIP = {
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
}


def write_wordpiece(folder: Path, size: int = 30522) -> None:
    """A BERT tokenizer of PubMedBERT's kind and size, with some words and many fillers."""
    from transformers import BertTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["a", "of", "photo", "polyp", "colon", "##oscopy", "##s", "normal", "mucosa", "with", "."]
    lines = [*marks, *words, *(f"[unused{i}]" for i in range(size - len(marks) - len(words)))]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)


def write_biomedclip(folder: Path, *, layers: int, tower: str, suffix: str) -> Path:
    """BiomedCLIP as the hub lays it out, random weights; beside it the text tower's config.json."""
    import open_clip
    from safetensors.torch import save_file
    from transformers import BertConfig

    document: dict[str, Any] = json.loads(json.dumps(BIOMEDCLIP))
    document["model_cfg"]["vision_cfg"]["timm_model_name"] = tower
    BertConfig(vocab_size=30522, num_hidden_layers=layers).save_pretrained(folder)
    write_wordpiece(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    config = json.loads(json.dumps(document["model_cfg"]))
    config["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CustomTextCLIP(**config)
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    if suffix == ".bin":
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


def check_biomedclip(encoder: TextEncoder) -> None:
    assert (encoder.dim, encoder.context_length) == (512, 256)
    rows = encoder.encode_images(IMAGES)
    assert rows.shape == (2, 512)
    assert np.abs(rows[0] - rows[1]).max() > 1e-4
    texts = encoder.encode_texts(["a photo of a polyp", "normal colonoscopy"])
    assert np.abs(texts[0] - texts[1]).max() > 1e-4
    assert encoder.count_tokens("a photo of polyps") == 7  # poly + s, both marks
    with pytest.warns(UserWarning, match="longer than the 256 tokens"):
        encoder.encode_texts(["polyp " * 300])


@pytest.mark.slow
def test_biomedclips_layout_with_a_short_text_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_biomedclip(tmp_path, layers=1, tower="vit_tiny_patch16_224", suffix=".safetensors")
    assert isinstance(load_encoder(folder, device="cpu"), TextEncoder)
    check_biomedclip(OpenClipEncoder.from_folder(folder, device="cpu", batch_size=1))


@pytest.mark.slow
def test_biomedclip_as_published_is_a_pickle_and_converts_as_the_error_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_biomedclip(tmp_path / "hub", layers=1, tower="vit_tiny_patch16_224", suffix=".bin")
    with pytest.raises(EncoderError, match=rf"open_clip_pytorch_model.bin.*promptopt convert {folder} "):
        load_encoder(folder, device="cpu")
    done = convert_folder(folder, tmp_path / "new")
    assert done.source_sha256 == hashlib.sha256(done.source.read_bytes()).hexdigest()
    assert not done.notes
    assert not list((tmp_path / "new").glob("*.bin"))
    encoder = load_encoder(tmp_path / "new", device="cpu")
    assert isinstance(encoder, TextEncoder)
    state = torch.load(folder / "open_clip_pytorch_model.bin", weights_only=True)
    model = encoder._model  # type: ignore[attr-defined]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name].float(), msg=name)


@pytest.mark.slow
def test_biomedclip_on_the_hub_is_fetched_without_its_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = write_biomedclip(tmp_path / "hub", layers=1, tower="vit_tiny_patch16_224", suffix=".bin")
    tower = hub / "config.json"  # it lies in the text tower's own repository
    tower.rename(tmp_path / "tower.json")
    name = "hf:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224@main"
    asked: list[list[str]] = []

    def snapshot(_: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision == "main"
        asked.append(allow_patterns)
        without = tmp_path / f"snapshot{len(asked)}"
        without.mkdir()
        for path in hub.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copyfile(path, without / path.name)
        return str(without)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(EncoderError, match=rf"published as a pickle.*promptopt convert {name} NEW_FOLDER"):
        load_encoder(name, device="cpu")
    assert not any(pattern.endswith(".bin") for patterns in asked for pattern in patterns)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(tmp_path / "tower.json"))
    assert not convert_folder(name, tmp_path / "new").notes
    check_biomedclip(OpenClipEncoder.from_folder(tmp_path / "new", device="cpu", batch_size=1))


@pytest.mark.slow
def test_biomedclip_at_its_true_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_biomedclip(tmp_path, layers=12, tower="vit_base_patch16_224", suffix=".safetensors")
    encoder = OpenClipEncoder.from_folder(folder, device="cpu", batch_size=1)
    check_biomedclip(encoder)
    parameters = sum(p.numel() for p in encoder._model.parameters())
    assert parameters == pytest.approx(196e6, rel=0.01)


@pytest.mark.slow
def test_dinov2_small_in_its_published_files(tmp_path: Path) -> None:
    """ViT-S/14, trained at 518 pixels and read at 224: its position embeddings are interpolated."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    processor = BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(tmp_path)
    encoder: Any = load_encoder(tmp_path, device="cpu")
    assert (encoder.dim, encoder.preprocessing["size"]) == (384, [224, 224])
    assert sum(p.numel() for p in encoder._model.parameters()) == pytest.approx(22.06e6, rel=0.01)
    square = IMAGES[0].resize((256, 256), Image.Resampling.BICUBIC)
    rows = encoder.encode_images([square])
    # the processor crops 224 of 256, the encoder shows the whole frame: equal on what needs neither
    whole = square.resize((224, 224), Image.Resampling.BICUBIC)
    pixels = processor(whole, do_resize=False, do_center_crop=False, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**pixels).pooler_output.numpy()
    np.testing.assert_allclose(rows, expected, atol=2e-4)


@pytest.mark.slow
def test_inceptions_state_dict_has_the_published_names(tmp_path: Path) -> None:
    """Names and shapes as clean-fid's own network declares them, in a safetensors file."""
    pytest.importorskip("cleanfid")
    from cleanfid.inception_pytorch import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from safetensors.torch import save_file
    from torchvision.models import inception_v3

    # clean-fid's fid_inception_v3 without its download, block by block
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        net.Mixed_5b = FIDInceptionA(192, pool_features=32)
        net.Mixed_5c = FIDInceptionA(256, pool_features=64)
        net.Mixed_5d = FIDInceptionA(288, pool_features=64)
        net.Mixed_6b = FIDInceptionC(768, channels_7x7=128)
        net.Mixed_6c = FIDInceptionC(768, channels_7x7=160)
        net.Mixed_6d = FIDInceptionC(768, channels_7x7=160)
        net.Mixed_6e = FIDInceptionC(768, channels_7x7=192)
        net.Mixed_7b = FIDInceptionE_1(1280)
        net.Mixed_7c = FIDInceptionE_2(2048)
    state = net.state_dict()
    assert {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.bn.running_var", "fc.bias"} <= set(state)
    assert not any(name.startswith("AuxLogits") for name in state)
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "inception.safetensors"
    )
    encoder: Any = load_encoder(f"inception:{tmp_path / 'inception.safetensors'}", device="cpu")
    rows = encoder.encode_images(IMAGES[:1])
    assert rows.shape == (1, 2048)
    assert encoder.probabilities(rows).shape == (1, 1008)
    assert not encoder.published
