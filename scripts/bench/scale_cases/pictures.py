"""What PNG files of 512x512 cost: the store's settings beside others, and `ImageStore.put` as a whole."""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from generators.request import ImageRequest
from generators.store import ImageStore

SETTINGS = {
    "level 1, run lengths": {"compress_level": 1, "compress_type": zlib.Z_RLE},
    "level 1": {"compress_level": 1},
    "level 6, Pillow's default": {},
}


def table(paths: Sequence[Path], store: Path, *, rounds: int) -> str:
    """Markdown: processor milliseconds and kB a picture; the least of the rounds."""
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
    lines = ["| PNG of 512x512 | CPU ms | kB |", "| --- | ---: | ---: |"]
    for name, how in SETTINGS.items():

        def encode(picture: Image.Image, how: dict[str, int] = how) -> int:
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG", **how)
            return buffer.tell()

        lines.append(_row(name, encode, pictures, rounds))
    kept = ImageStore(store)
    seeds = iter(range(10**9))

    def put(picture: Image.Image) -> int:
        request = ImageRequest(
            generator="0" * 64, prompt="a polyp", negative_prompt="", seed=next(seeds), steps=1, guidance=1.0,
            scheduler="ddim", width=picture.width, height=picture.height, dtype="float32", device="cpu",
            versions="none=1",
        )  # fmt: skip
        return kept.put(request, picture).path.stat().st_size

    lines.append(_row("`ImageStore.put`: encoded, hashed, written", put, pictures, rounds))
    return "\n".join(lines)


def _row(name: str, job: Callable[[Image.Image], int], pictures: list[Image.Image], rounds: int) -> str:
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        size = sum(map(job, pictures))
        best = min(best, time.process_time() - begun)
    return f"| {name} | {1000 * best / len(pictures):.1f} | {size / len(pictures) / 1000:.0f} |"
