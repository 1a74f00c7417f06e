"""The text tower of a CLIP folder as a generator's text encoder; open_clip itself is the oracle."""

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

import evaluation
from generators.training.text_tower import read_text_tower

TEXTS = ["a colonoscopy image of a small polyp", "the z-line, sharp", "", "Ünknown words & signs"]
FOLDER = Path(evaluation.__file__).parent / "embedded" / "clip"


def test_it_says_what_open_clip_says() -> None:
    network, tokenizer = read_text_tower(FOLDER)
    name = f"local-dir:{FOLDER}"
    clip = open_clip.create_model(name)
    length = clip.context_length
    ids = tokenizer(TEXTS, padding="max_length", max_length=length, return_tensors="pt").input_ids
    projection = load_file(FOLDER / "open_clip_model.safetensors")["text_projection"].float()
    with torch.no_grad():
        ours = network(ids).pooler_output @ projection
        theirs = clip.encode_text(open_clip.get_tokenizer(name)(TEXTS))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_folder_without_a_text_tower_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no text tower"):
        read_text_tower(tmp_path)
    broken = tmp_path / "clip"
    broken.mkdir()
    for file in FOLDER.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "open_clip_model.safetensors")
    tensors.pop("ln_final.weight")
    save_file(tensors, broken / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=r"ln_final\.weight"):
        read_text_tower(broken)
