"""What a study costs besides making and encoding images, and how fast a finished one comes back.

    python scripts/bench/engine_overhead.py [--trials 100] [--images 8] [--painted] [--profile 25]

A study with the embedded networks runs once, its generator, encoder and judge under a clock; whatever else
it does is the engine: proposals, the model, metrics, databases, files. Its share is printed of the search's
trials alone, and of the whole study with preparation, confirmation and report. Then the finished study runs
again.
With --painted the images are painted in no time, and the generator's own time, of 16 real images, is put in
their place, so that 100 trials take a minute. Processor seconds, as other programs may run beside; wall time
besides.
"""

import argparse
import cProfile
import hashlib
import pstats
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.classifier.judge import load_judge
from evaluation.encoders.load import load_text_encoder
from generators import load
from generators.request import ImageRequest
from promptopt import Study
from promptopt.search.engine import Search

spent: Counter[str] = Counter()  # processor seconds


class Timed:
    """An object whose named methods are timed."""

    def __init__(self, wrapped: Any, what: str, *methods: str) -> None:
        self._wrapped, self._what = wrapped, what
        for name in methods:
            setattr(self, name, self._timed(getattr(wrapped, name)))

    def _timed(self, method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            begun = time.process_time()
            try:
                return method(*arguments)
            finally:
                spent[self._what] += time.process_time() - begun

        return call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


class Trials:
    """Processor seconds of the search itself: the engine's, what else was timed, and images made."""

    def __init__(self, generator: "Clocked") -> None:
        self.engine = 0.0
        self.made = 0
        self.timed: Counter[str] = Counter()  # seconds
        self._generator, self._run = generator, Search.run
        Search.run = lambda search, *given, **named: self._timed(search, given, named)  # type: ignore

    def _timed(self, search: Search, given: Sequence[Any], named: dict[str, Any]) -> str:
        begun, before, made = time.process_time(), Counter(spent), self._generator.made
        reason = self._run(search, *given, **named)
        self.timed = spent - before
        self.engine = time.process_time() - begun - sum(self.timed.values())
        self.made = self._generator.made - made
        return reason

    def share(self, per_image: float | None) -> float:
        """Of the engine in the time of the trials; `per_image` seconds where the images were painted."""
        made = self.timed["generation"] if per_image is None else per_image * self.made
        return self.engine / (self.engine + made + self.timed["encoding"])


class Clocked:
    """A generator under a clock; or one that paints what the words and the seed give."""

    def __init__(self, generator: Any, *, painted: bool) -> None:
        self._generator, self._painted = generator, painted
        self.made = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        images = map(paint, requests) if self._painted else self._generator.generate(requests)
        for _ in requests:
            begun = time.process_time()
            image = next(images)
            spent["generation"] += time.process_time() - begun
            self.made += 1
            yield image


def paint(request: ImageRequest) -> Image.Image:
    """Coarse colors of the seed, moved by each word."""
    pixels = np.random.default_rng(request.seed).uniform(60, 200, (8, 8, 3))
    for word in set(request.prompt.split()):
        own = np.random.default_rng(int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big"))
        pixels += own.normal(0, 6, (8, 8, 3))
    coarse = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return coarse.resize((request.width, request.height), Image.Resampling.BICUBIC)


def real_seconds_per_image(generator: Any, count: int = 16) -> float:
    requests = [generator.request("a colonoscopy image of a polyp", seed) for seed in range(count)]
    list(generator.generate(requests[: count // 2]))  # warms up
    begun = time.process_time()
    list(generator.generate(requests))
    return (time.process_time() - begun) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--real", type=int, default=1500, help="images of the phantom data set")
    parser.add_argument("--painted", action="store_true")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print the N costliest functions")
    parser.add_argument("--work", type=Path, default=Path("work/engine-overhead"))
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    real = load("embedded", device="cpu")
    generator = Clocked(real, painted=options.painted)
    study = Study(
        {
            "name": "overhead",
            "category": "polyps",
            "data": {"phantom": {"images": options.real}},
            "search": {"trials": options.trials, "images": options.images, "stop": None},
            "confirm": {"top": 4, "images": 32},
        },
        generator=generator,
        encoder=Timed(load_text_encoder("embedded", device="cpu"), "encoding", "encode_images"),
        judge=Timed(load_judge("embedded", device="cpu"), "encoding", "read"),
        runs=options.work / "runs",
        store=options.work / "store",
    )
    per_image = real_seconds_per_image(real) if options.painted else None
    print(
        "| run | prompts | images made | generation, s | encoding and judge, s | engine, s | its share | "
        "engine a trial, s | its share of the trials | search, wall s | whole, wall s |"
    )
    print("| --- " * 11 + "|")
    trials = Trials(generator)
    for name in ("first run", "replay"):
        spent.clear()
        generator.made = 0
        profile = cProfile.Profile(time.process_time)
        wall, processor = time.perf_counter(), time.process_time()
        result = profile.runcall(study.run, device="cpu") if options.profile else study.run(device="cpu")
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        engine = processor - sum(spent.values())
        made = spent["generation"] if per_image is None else per_image * generator.made
        prompts = result.prompts.prompts_scored
        cells = [name, prompts, generator.made, f"{made:.1f}", f"{spent['encoding']:.1f}", f"{engine:.1f}"]
        cells += [f"{engine / (engine + made + spent['encoding']):.1%}", f"{trials.engine / prompts:.3f}"]
        cells += [f"{trials.share(per_image):.1%}", f"{result.seconds['search']:.1f}", f"{wall:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        if options.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(
                "promptopt|evaluation|generators|optuna.study", options.profile
            )
    if options.painted:
        print("\nImages were painted; generation is what the embedded generator would have taken for them.")


if __name__ == "__main__":
    main()
