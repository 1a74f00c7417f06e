"""A source folder as the organizers hand it out, small and made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Scene = Callable[[int], Image.Image]


def scene(number: int) -> Image.Image:
    """A random picture with texture; two numbers give two clearly different ones."""
    noise = np.random.default_rng(number).integers(0, 256, (18, 18, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((108, 84), Image.Resampling.BICUBIC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """30 pictures: 20 of a polyp (p00 ...), 10 of nothing (n00 ...), two captions each."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    rows = ["Prompt;Filename"]
    for i in range(30):
        name = f"p{i:02d}.jpg" if i < 20 else f"n{i - 20:02d}.jpg"
        scene(i).save(folder / "images" / name)
        rows.append(f"Generate an image with {'1 polyp' if i < 20 else 'no polyps'}.;{name}")
        rows.append(f"Generate an image containing text.;{name}")
    (folder / "prompt-gt.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder
