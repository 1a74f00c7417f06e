"""Generators whose quality is known, on colored squares from two hospitals with different backgrounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from generators.request import ImageRequest
from studies.dataset import Dataset, Record, read_dataset, write_metadata
from tests.promptopt.fakes import SquareGenerator, draw

TEXTS = {
    "red": {"red": ["a red square"], "green": ["a green square"]},
    "green": {"green": ["a green square"], "red": ["a red square"]},
}
EACH = 24  # images of a center in a pool


def write_two_centers(
    folder: Path, *, centers: Sequence[str] = ("east", "west"), held_out: int = 60
) -> Dataset:
    """Red and green squares; in the first center on black, in the others on white."""
    (folder / "images").mkdir(parents=True)
    records = []
    for p, pool in enumerate(("reference", "validation", "test")):
        for c, center in enumerate(centers):
            for i in range(held_out if pool == "validation" else EACH):
                color = ("red", "green")[i % 2]
                text = f"a {color} square on {'white' if c else 'black'}"
                name = f"images/{pool}-{center}-{i:03}.png"
                draw(text, 1000 * (10 * p + c) + i).save(folder / name)
                records.append(
                    Record(
                        file_name=name,
                        text=(text, text.upper()),
                        category=color,
                        label=color,
                        center=center,
                        group=name,
                        pool=pool,  # type: ignore[arg-type]
                    )
                )
    write_metadata(folder, records)
    return read_dataset(folder)


@dataclass
class Deaf(SquareGenerator):
    """Draws grey squares, whatever it is asked for."""

    fingerprint: str = hashlib.sha256(b"deaf").hexdigest()

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            self.made.append(request)
            yield draw("grey", request.seed)


@dataclass
class Copier(SquareGenerator):
    """Gives its training images away, a little changed."""

    fingerprint: str = hashlib.sha256(b"copier").hexdigest()
    training: list[Path] = field(default_factory=list)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            self.made.append(request)
            rng = np.random.default_rng(request.seed)
            with Image.open(self.training[int(rng.integers(len(self.training)))]) as image:
                pixels = np.asarray(image.convert("RGB")) + rng.normal(0, 1, (*image.size, 3))
            yield Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
