"""What bulk costs beside the generator: the index of repetitions, and going on with a synthesis.

    python scripts/bench/bulk.py [--images 10000,100000] [--resume 2000,50000]

The index: seconds to compare chunks of 64 thumbnails with those that are kept, by the index and by a look at
all of them, one after the other; and what a set of a million would take in all, as the cost of a chunk grows
in proportion to what is kept. The thumbnails are of pictures with a natural spectrum.

Going on: seconds, of the clock and of the processor, and pictures read by a second call of `synthesize` in a
folder that holds all images (a generator that draws one color, 16 x 16), and by one whose index was removed,
as before there was one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.metrics.memorization import pair_distances
from generators.request import ImageRequest
from generators.store import ImageStore
from promptopt.augmentation.copies import OwnCopies
from promptopt.space.prompt_lines import PromptLine
from promptopt.synthesis.index import INDEX
from promptopt.synthesis.run import synthesize
from tests.promptopt.fakes import SquareGenerator

CHUNK, DIM, ROWS = 64, 193, 8192


def thumbnails(count: int, rng: np.random.Generator) -> np.ndarray:
    """8 x 8 pictures whose amplitudes fall with the frequency, colors nearly alike."""
    frequency = np.hypot(np.fft.fftfreq(8)[:, None], np.fft.fftfreq(8)[None])
    amplitude = 1 / np.maximum(frequency, 0.125) ** 1.5
    gray = np.fft.ifft2(amplitude * np.fft.fft2(rng.normal(size=(count, 8, 8)))).real
    color = np.fft.ifft2(amplitude * np.fft.fft2(rng.normal(size=(count, 3, 8, 8)))).real
    picture = (gray[:, None] + 0.3 * color).reshape(count, -1)
    picture = 30 * (picture - picture.mean(axis=1, keepdims=True))
    return np.concatenate([picture, np.ones((count, 1))], axis=1).astype(np.float32)


def index(kept: int, folder: Path, chunks: int = 5) -> tuple[float, float]:
    """Seconds a chunk by the index, and by a look at all."""
    rng = np.random.default_rng(kept)
    own = OwnCopies(folder / f"{kept}.f16", dim=DIM, radius=0.01)
    for start in range(0, kept, ROWS):
        own.keep(thumbnails(min(ROWS, kept - start), rng))
    wanted = [thumbnails(CHUNK, rng) for _ in range(chunks)]
    began = time.process_time()
    found = [own.distances(chunk)[0] for chunk in wanted]
    middle = time.process_time()
    for chunk, ours in zip(wanted, found, strict=True):
        made = own._rounded(chunk)
        nearest = np.full(CHUNK, np.inf)
        with (folder / f"{kept}.f16").open("rb") as stream:
            while part := stream.read(ROWS * DIM * 2):
                rows = np.frombuffer(part, dtype=np.float16).reshape(-1, DIM).astype(np.float32)
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                nearest = np.minimum(nearest, pair_distances(made, rows, "cosine").min(axis=1))
        assert np.abs(nearest - ours).max() < 1e-5
    return (middle - began) / chunks, (time.process_time() - middle) / chunks


class Plain(SquareGenerator):
    """One color: only the files cost."""

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            yield Image.new("RGB", (request.width, request.height), (request.seed % 256, 9, 9))


@dataclass(frozen=True)
class Call:
    """What a call of `synthesize` took that had nothing to make."""

    wall: float
    cpu: float
    read: int

    def __str__(self) -> str:
        return f"{self.wall:6.1f} s ({self.cpu:.1f} of the CPU), {self.read:,} pictures read"


def going_on(images: int, folder: Path) -> tuple[Call, Call]:
    """By the index, and without."""
    prompts = [PromptLine(text=f"square {n}", number=n, line=n) for n in range(1, images // 10 + 1)]
    out, reads = folder / str(images), [0]
    get = ImageStore.get

    def counted(self: ImageStore, request: ImageRequest) -> object:
        reads[0] += 1
        return get(self, request)

    synthesize(prompts, Plain(), out, per_prompt=10)
    calls: list[Call] = []
    ImageStore.get = counted  # type: ignore[method-assign,assignment]
    try:
        for _ in range(2):
            reads[0], wall, cpu = 0, time.perf_counter(), time.process_time()
            assert synthesize(prompts, Plain(), out, per_prompt=10).generated == 0
            calls.append(Call(time.perf_counter() - wall, time.process_time() - cpu, reads[0]))
            (out / INDEX).unlink()
    finally:
        ImageStore.get = get  # type: ignore[method-assign]
    return calls[0], calls[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="10000,100000")
    parser.add_argument("--resume", default="2000,50000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kept in map(int, filter(None, options.images.split(","))):
            ours, all_ = index(kept, folder)
            million = [seconds * 1e6 / kept * (1e6 / CHUNK) / 2 / 3600 for seconds in (ours, all_)]
            print(
                f"index, {kept:7,} kept: {1000 * ours:7.1f} ms a chunk, by all {1000 * all_:7.1f} ms "
                f"({all_ / ours:.1f} times); a million in all {million[0]:.2f} h, by all {million[1]:.2f} h",
                flush=True,
            )
        for images in map(int, filter(None, options.resume.split(","))):
            by_index, without = going_on(images, folder)
            print(f"going on, {images:6,} images: {by_index}; without an index {without}", flush=True)


if __name__ == "__main__":
    main()
