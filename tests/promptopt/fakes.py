"""A generator, an encoder and a judge over colored squares: real images, no network, milliseconds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from generators.request import ImageRequest
from studies.dataset import Record, write_metadata

COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 200), "grey": (120, 120, 120)}
SIZES = {"big": 12, "small": 6, "tiny": 2}
GROUNDS = {"black": 20, "white": 235}
SIDE = 16


def draw(text: str, seed: int) -> Image.Image:
    """What the words say; what they leave open comes from the seed."""
    rng = np.random.default_rng([seed, 77])
    words = text.lower().replace(",", " ").split()
    color = next((COLORS[w] for w in words if w in COLORS), list(COLORS.values())[int(rng.integers(4))])
    size = next((SIZES[w] for w in words if w in SIZES), int(rng.integers(2, 13)))
    ground = next((GROUNDS[w] for w in words if w in GROUNDS), int(rng.integers(20, 236)))
    pixels = np.full((SIDE, SIDE, 3), ground, dtype=np.float64)
    low = (SIDE - size) // 2
    pixels[low : low + size, low : low + size] = color
    pixels += rng.normal(0, 12, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@dataclass
class SquareGenerator:
    """Draws the prompt; counts what it made, and may sleep to be killed in time."""

    uri: str = "squares"
    fingerprint: str = hashlib.sha256(b"squares").hexdigest()
    max_tokens: int = 12
    seconds_per_image: float = 0.0
    made: list[ImageRequest] = field(default_factory=list)

    def request(self, prompt: str, seed: int, **settings: Any) -> ImageRequest:
        chosen = {"negative_prompt": "", "steps": 4, "guidance": 1.0, "scheduler": "ink"}
        chosen.update({key: value for key, value in settings.items() if value is not None})
        return ImageRequest(
            generator=self.fingerprint,
            prompt=prompt,
            seed=seed,
            width=SIDE,
            height=SIDE,
            dtype="float32",
            device="cpu",
            versions="squares=1",
            **chosen,
        )

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            time.sleep(self.seconds_per_image)
            self.made.append(request)
            yield draw(request.prompt, request.seed)

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split()) + 2


@dataclass
class ColorEncoder:
    """Mean colors of a 4x4 grid; a text's features are those of the picture it describes."""

    uri: str = "colors"
    fingerprint: str = hashlib.sha256(b"colors").hexdigest()
    dim: int = 48
    logit_scale: float = 5.0
    context_length: int = 20

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        rows = [np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX)) for image in images]
        return (np.array(rows, dtype=np.float32).reshape(len(images), 48) - 128) / 128

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.encode_images([draw(text, 0) for text in texts])

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2


@dataclass
class RednessJudge:
    """Sees red when the middle is red."""

    uri: str = "redness"
    fingerprint: str = hashlib.sha256(b"redness").hexdigest()
    names: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"category": ("red", "other")})

    def read(self, images: Sequence[Image.Image]) -> Any:
        middle = np.array([np.asarray(image)[6:10, 6:10].mean(axis=(0, 1)) for image in images])
        red = np.clip((middle[:, 0] - middle[:, 1:].max(axis=1)) / 100, 0, 1)
        both = np.stack([red, 1 - red], axis=1)
        return SimpleNamespace(category_probabilities=both, kind_probabilities=both)


def write_squares(folder: Path, *, each: int = 20, without: str | None = None) -> Path:
    """A prepared data set: positives are big red squares on black, the others have other colors.

    `without` names a pool that gets no positives.
    """
    (folder / "images").mkdir(parents=True)
    records = []
    for p, pool in enumerate(("reference", "validation", "test")):
        for i in range(2 * each):
            category = "red" if i % 2 else "other"
            if pool == without and category == "red":
                continue
            text = "a big red square on black" if i % 2 else f"a {('green', 'blue', 'grey')[i % 3]} square"
            name = f"images/{pool}-{i:03}.png"
            draw(text, 10_000 * (p + 1) + i).save(folder / name)
            records.append(
                Record(
                    file_name=name,
                    text=(text,),
                    category=category,
                    label=category,
                    center="a",
                    group=f"{pool}-{i}",
                    pool=pool,  # type: ignore[arg-type]
                )
            )
    write_metadata(folder, records)
    return folder


def category() -> dict[str, Any]:
    """60 prompts; `BEST` is the planted best."""
    return {
        "name": "red",
        "title": "Red squares",
        "template": "a {|big|small|tiny|blurred} {red|green|blue|grey} square {|on black|on white}",
        "wildcards": {},
        "texts": ["a big red square", "a red square"],
        "distractors": {"green": ["a green square"], "blue": ["a blue square"], "grey": ["a grey square"]},
        "baseline": "a square",
    }


BEST = "a big red square on black"


def study(folder: Path, **changes: Any) -> dict[str, Any]:
    """A study file's content over `folder/data`."""
    content: dict[str, Any] = {
        "name": "red-squares",
        "aim": "single",
        "category": category(),
        "data": str(folder / "data"),
        "generator": {"uri": "squares"},
        "encoder": "colors",
        "search": {"trials": 16, "images": 8},
        "confirm": {"top": 3, "images": 8},
        "seed": 5,
    }
    return content | changes
