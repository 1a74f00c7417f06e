"""Fixtures for the tests of encoders and metrics."""

from pathlib import Path
from typing import Any

import pytest

WORDS = (
    *("a", "an", "the", "photo", "image", "of", "polyp", "polyps", "z", "line", "pylorus", "cecum", "snare"),
    *("forceps", "normal", "mucosa", "red", "small", "large"),
)

MICRO_CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 12,
        "vocab_size": len(WORDS) + 4,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer of a few words; its end mark has the highest id, where argmax pooling looks."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", *WORDS, "<start>", "<end>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face tokenizer of about twenty words."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def make_micro_clip(folder: Path) -> Path:
    """A two-layer CLIP with random weights, 32x32 images and its own vocabulary, in open_clip's layout."""
    from evaluation.encoders.open_clip import build_open_clip, save_open_clip

    model = build_open_clip(MICRO_CONFIG, seed=0)
    return save_open_clip(folder, model, MICRO_CONFIG, write_tokenizer(folder))


@pytest.fixture(scope="session")
def micro_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make_micro_clip` writes."""
    return make_micro_clip(tmp_path_factory.mktemp("micro_clip"))


@pytest.fixture(scope="session")
def micro_clip(micro_clip_folder: Path) -> Any:
    """The encoder in `micro_clip_folder`, on the processor."""
    from evaluation.encoders.load import load_encoder

    return load_encoder(micro_clip_folder, device="cpu")
