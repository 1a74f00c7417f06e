"""Does memory grow with the number of images of an augmentation set?

    python scripts/bench/augment_memory.py [--images 2000 10000 100000] [--format imagefolder]

A stub generator draws clouds of 64 x 64 pixels; everything else is `promptopt augment`: all four filters,
calibrated on 600 real images, PNG, journal, metadata. Each size runs in a process of its own; printed are its
peak resident memory and its time.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.features.feature_store import FeatureStore
from generators.family import MAIN
from generators.request import ImageRequest
from promptopt.augmentation.filters import Reference
from promptopt.augmentation.run import augment
from promptopt.augmentation.sources import ClassSource, SourcePrompt
from promptopt.config.study_file import study_from_mapping
from promptopt.run.prompts import Network
from promptopt.space import Candidate
from promptopt.synthesis.plan import Sampling
from studies.dataset import POOLS, Record, read_dataset, write_metadata

SIDE, REAL = 64, 100  # pixels; real images of a class and pool
CLASSES = ("red", "blue")


def draw(name: str, seed: int) -> Image.Image:
    """Clouds on a ground of the class's color."""
    rng = np.random.default_rng([seed, CLASSES.index(name)])
    clouds = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    ground = np.zeros((SIDE, SIDE, 3))
    ground[: SIDE // 3, :, 0 if name == "red" else 2] = 160
    return Image.fromarray(np.clip(0.6 * np.asarray(clouds) + ground, 0, 255).astype(np.uint8))


class Stub:
    uri, fingerprint, max_tokens = "stub", hashlib.sha256(b"stub").hexdigest(), 77

    def request(self, prompt: str, seed: int, **settings: Any) -> ImageRequest:
        return ImageRequest(
            generator=self.fingerprint, prompt=prompt, negative_prompt="", seed=seed, steps=1, guidance=1.0,
            scheduler="none", width=SIDE, height=SIDE, dtype="float32", device="cpu", versions="stub=1",
        )  # fmt: skip

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            yield draw(request.prompt, request.seed)

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split()) + 2


def real_images(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    records = []
    for number, (pool, name, _) in enumerate(
        (pool, name, index) for pool in POOLS for name in CLASSES for index in range(REAL)
    ):
        file = f"images/{number:04d}.png"
        draw(name, 10**9 + number).save(folder / file)
        records.append(
            Record(
                file_name=file, text=(name,), category=name, label=name, center="stub", group=str(number),
                pool=pool,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    write_metadata(folder, records)
    return folder


def one(images: int, kind: Any, data: Path) -> dict[str, Any]:
    """In this process."""
    content = {"name": "stub", "aim": "single", "category": "polyps", "data": str(data)}
    sources = [
        ClassSource(
            name=name, prompts=(SourcePrompt(candidate=Candidate(name), weight=1.0),),
            generators={(MAIN, None): "stub"}, sampling=Sampling(),
            networks={MAIN: Network(uri="stub", fingerprint=Stub.fingerprint)},
            config=study_from_mapping(content), positives=name,
        )
        for name in CLASSES
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        reference = Reference(
            data=read_dataset(data),
            features=FeatureStore(Path(work) / "features"),
            encoder=ThumbnailEncoder(),
        )
        began = time.perf_counter()
        made = augment(
            sources,
            Path(work) / "set",
            counts=dict.fromkeys(CLASSES, images // len(CLASSES)),
            reference=reference,
            open_generator=lambda _: Stub(),
            format=kind,
        )
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"kept": made.images, "tried": sum(c.tried for c in made.classes), "peak": peak, "s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 10_000, 100_000])
    parser.add_argument("--format", choices=("imagefolder", "webdataset"), default="imagefolder")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(one(options.images[0], options.format, options.one)))
        return
    print("| images kept | made | peak memory | images/s |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        data = real_images(Path(folder) / "data")
        for images in options.images:
            arguments = ["--images", str(images), "--format", options.format, "--one", str(data)]
            done = subprocess.run(
                [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
            )
            found = json.loads(done.stdout)
            print(
                f"| {found['kept']:,} | {found['tried']:,} | {found['peak']:.0f} MiB | "
                f"{found['kept'] / found['s']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
