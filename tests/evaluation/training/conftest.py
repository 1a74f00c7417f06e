"""A data set of colored squares on a mucosa-like ground: small, quick, with known truth."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.classifier.judge import LOCATION_NAMES
from studies.dataset import Dataset, Record, read_dataset, write_metadata

COLORS = {"red": (210, 40, 40), "white": (240, 240, 240), "pink": (250, 150, 190)}


def write_squares(root: Path, *, images: int, size: int = 32, seed: int = 0) -> Dataset:
    """Every picture: no square (normal) or one square at one of nine places, in one of three colors."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    records = []
    for index in range(images):
        pixels = np.full((size, size, 3), (150, 80, 70), dtype=np.float64) + rng.normal(0, 6, (size, size, 3))
        cell = int(rng.integers(9))
        color = list(COLORS)[int(rng.integers(3))]
        normal = index % 4 == 3
        if not normal:
            row, column = divmod(cell, 3)
            third, side = size // 3, size // 4
            top, left = row * third + 1, column * third + 1
            pixels[top : top + side, left : left + side] = COLORS[color]
        name = f"images/{index:05d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
        place = LOCATION_NAMES[cell]
        text = (
            ("normal mucosa",)
            if normal
            else (
                f"a {color} polyp in the {place}",
                f"there is one {color} polyp at the {place} of the frame",
            )
        )
        records.append(
            Record(
                file_name=name,
                text=text,
                category="normal" if normal else "polyps",
                label="normal" if normal else "polyp",
                center="made",
                group=name,
                pool="validation" if index % 5 == 4 else "reference",
                attributes={
                    "category": "normal" if normal else "polyps",
                    "kind": "normal" if normal else "polyp",
                    "count": 0 if normal else 1,
                    "locations": [] if normal else [place],
                    "color": None if normal else color,
                    "size": None,
                    "paris": None if normal else "is",
                    "text": False,
                    "box": None,
                },
            )
        )
    write_metadata(root, records)
    return read_dataset(root)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """160 pictures: 128 of the reference pool, 32 of the validation pool."""
    return write_squares(tmp_path_factory.mktemp("squares") / "data", images=160)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level CLIP tokenizer of some 500 tokens whose end mark is not the highest id."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = tmp_path_factory.mktemp("tokenizer")
    letters = list(bytes_to_unicode().values())
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "model_max_length": 77,
            }
        )
    )
    return folder
