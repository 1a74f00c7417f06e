"""A tiny data set and a recipe so small that a whole training takes a second or two."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.training.spec import SdTrainingSpec
from studies.dataset import Dataset, Record, read_dataset, write_metadata

COLORS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 200)}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """24 pictures of 16x16, each of one color with a little noise; the last four are not for training."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    records = []
    for number in range(24):
        color = list(COLORS)[number % 3]
        pixels = np.clip(np.array(COLORS[color]) + rng.normal(0, 12, (16, 16, 3)), 0, 255)
        name = f"images/{number:02d}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(root / name)
        records.append(
            Record(
                file_name=name,
                text=(f"a {color} wall", f"{color}"),
                category="polyps",
                label=color,
                center="a",
                group=str(number),
                pool="reference" if number < 20 else "test",
            )
        )
    write_metadata(root, records)
    return read_dataset(root)


@pytest.fixture
def spec() -> SdTrainingSpec:
    """Everything as small as the components allow."""
    return SdTrainingSpec.model_validate(
        {
            "size": 16,
            "tokenizer": {"vocab_size": 540},
            "text_encoder": {"hidden_size": 16, "intermediate_size": 16, "layers": 1, "heads": 2},
            "vae": {"channels": [8, 8], "latent_channels": 2, "norm_groups": 4},
            "unet": {"channels": [8, 16], "attention": [False, True], "head_dim": 8, "norm_groups": 4},
            "vae_training": {"steps": 4, "batch_size": 4, "warmup": 1, "checkpoint_every": 2},
            "training": {"steps": 6, "batch_size": 4, "warmup": 1, "checkpoint_every": 2},
            "export_dtype": "float32",
            "validation": {"steps": 2, "images": 4},
            "tracker": "none",
        }
    )
