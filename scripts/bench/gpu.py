"""What one NVIDIA GPU does with Stable Diffusion 1.5's architecture, in under 8 minutes.

    python scripts/bench/gpu.py                  # 512x512, 20 steps, guidance
    python scripts/bench/gpu.py --cpu-smoke      # the same code on a tiny model and a CPU

Printed are the rate of matrix products, images against those of the CPU in float32, images a second by the
plain pipeline and by ours, what happens when memory runs out, and training images a second by diffusers'
example loop, with and without caches, and by ours. Weights are random: speed does not depend on them. What
there is no time for is named and left out. Exit status 1: images are wrong, or memory that runs out is fatal.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import ARCHITECTURES, build
from generation_speed import Job, image_flop, matmul_rate, synchronise
from training_speed import WAYS
from training_speed import Job as TrainingJob
from training_speed import run as train

import generators.stable_diffusion.diffusion as diffusion
from generators import ImageStore, fetch, load
from generators.stable_diffusion.batch_trial import release_memory
from generators.stable_diffusion.schedulers import make_scheduler

PROMPT, GUIDANCE = "a colonoscopy image of a polyp", 5.0
OFF_BY = {"float32": 1.0, "float16": 8.0, "bfloat16": 24.0}  # mean levels of 255 that an image may differ


@dataclass
class Bench:
    """Model, device and clock of one run."""

    folder: Path
    device: torch.device
    steps: int
    batch: int
    until: float
    smoke: bool
    rates: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    def load(self, dtype: str, *, batch: int, compiled: bool = False, device: str = "") -> Any:
        compile_: Any = "on" if compiled else "off"
        place = device or str(self.device)
        return load(self.model, device=place, dtype=dtype, batch_size=batch, compile=compile_)

    def has_time(self, seconds: float, what: str) -> bool:
        """Whether so many seconds are left; says what is left out otherwise."""
        if self.smoke or time.monotonic() + seconds < self.until:
            return True
        print(f"| {what} | left out: no time left |", flush=True)
        return False


def rates(bench: Bench) -> None:
    kinds = ("float32", "bfloat16") if bench.smoke else ("float32", "float16", "bfloat16")
    for kind in kinds:
        bench.rates[kind] = matmul_rate(bench.device, getattr(torch, kind))
    said = ", ".join(f"{kind} {rate / 1e12:.3g}" for kind, rate in bench.rates.items())
    print(f"matrix products, TFLOP/s: {said}")


def drawn(generator: Any, *, steps: int, count: int = 1) -> np.ndarray:
    requests = [generator.request(PROMPT, seed, steps=steps, guidance=GUIDANCE) for seed in range(count)]
    return np.stack([np.asarray(image) for image in generator.generate(requests)]).astype(int)


def correctness(bench: Bench) -> None:
    print("\n| images by | mean difference to the CPU in float32, levels of 255 | largest | |")
    print("| --- | --- | --- | --- |")
    reference = drawn(bench.load("float32", batch=1, device="cpu"), steps=2)
    for kind in bench.rates:
        off = np.abs(drawn(bench.load(kind, batch=1), steps=2) - reference)
        right = off.mean() <= OFF_BY[kind]
        if not right:
            bench.failed.append(f"images in {kind} are off by {off.mean():.1f}")
        print(f"| {kind} | {off.mean():.2f} | {off.max()} | {'right' if right else 'WRONG'} |", flush=True)


def plain(bench: Bench, dtype: str) -> Callable[[int], object]:
    """The pipeline as its documentation calls it, a call an image."""
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(bench.model, safety_checker=None)
    pipeline = pipeline.to(bench.device, getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler("dpmpp_2m", pipeline.scheduler)

    def make(seed: int) -> object:
        source = torch.Generator().manual_seed(seed)
        return pipeline(
            PROMPT, num_inference_steps=bench.steps, guidance_scale=GUIDANCE, generator=source
        ).images

    return make


def ours(
    bench: Bench, dtype: str, *, batch: int, compiled: bool = False, last: bool = True, once: bool = True
) -> Callable[[int], object]:
    """A batch a call; `last` is the layout channels_last, `once` keys and values of the text kept."""
    generator = bench.load(dtype, batch=batch, compiled=compiled)
    layout = torch.channels_last if last else torch.contiguous_format
    for network in (generator._pipeline.unet, generator._pipeline.vae):
        network.to(memory_format=layout)

    def make(seed: int) -> object:
        kept = diffusion.text_once
        diffusion.text_once = kept if once else lambda unet: nullcontext()
        try:
            requests = [
                generator.request(PROMPT, batch * seed + i, steps=bench.steps, guidance=GUIDANCE)
                for i in range(batch)
            ]
            return list(generator.generate(requests))
        finally:
            diffusion.text_once = kept

    return make


def images_per_second(bench: Bench, make: Callable[[int], object], batch: int) -> tuple[float, float]:
    """Speed of two calls after one that does not count, and the peak of allocated memory in MiB."""
    make(0)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    synchronise(bench.device)
    begun = time.perf_counter()
    for seed in (1, 2):
        make(seed)
    synchronise(bench.device)
    peak = torch.cuda.max_memory_allocated() / 2**20 if bench.device.type == "cuda" else float("nan")
    return 2 * batch / (time.perf_counter() - begun), peak


def generation(bench: Bench) -> None:
    half, n = ("bfloat16" if bench.smoke else "float16"), bench.batch
    ways: list[tuple[str, str, int, float, dict[str, Any] | None]] = [
        ("diffusers, a call an image", half, 1, 40, None),
        ("ours", half, 1, 40, {}),
        ("ours, text's keys and values anew each step", half, 1, 40, {"once": False}),
        ("ours", half, n, 40, {}),
        ("ours, not channels_last", half, n, 40, {"last": False}),
        ("ours", "bfloat16", n, 40, {}),
        ("ours, compiled", half, n, 150, {"compiled": True}),
        ("ours, compiled", half, 1, 150, {"compiled": True}),
    ]
    job = Job(
        uri=bench.model,
        device=str(bench.device),
        dtype=half,
        steps=bench.steps,
        guidance=GUIDANCE,
        jobs=(),
    )
    flop = image_flop(job)
    print(f"\n{bench.steps} steps, guidance {GUIDANCE}, {flop / 1e12:.3g} TFLOP an image\n")
    print("| way | number format, images a pass | images/s | of the matmul rate | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- |")
    best = 0.0
    for name, dtype, batch, seconds, settings in ways:
        if bench.smoke and settings and settings.get("compiled"):
            print(f"| {name} | left out: compiling takes minutes on a CPU |")
            continue
        if not bench.has_time(seconds, name):
            continue
        make = plain(bench, dtype) if settings is None else ours(bench, dtype, batch=batch, **settings)
        speed, peak = images_per_second(bench, make, batch)
        best = max(best, speed)
        share = speed * flop / bench.rates[dtype]
        print(f"| {name} | {dtype}, {batch} | {speed:.2f} | {share:.1%} | {peak:,.0f} |", flush=True)
        del make
        release_memory()
    if not bench.smoke:
        print(f"\nbest {best:.1f} images/s; the goal is 10")


def halving(bench: Bench) -> None:
    """A batch that does not fit: on a GPU by a limit to its memory, on a CPU by a UNet that refuses it."""
    batch, kind = 4 * bench.batch, ("float32" if bench.smoke else "float16")
    generator = bench.load(kind, batch=batch)
    if bench.device.type == "cuda":
        small = bench.load(kind, batch=max(1, bench.batch // 2))
        torch.cuda.reset_peak_memory_stats()
        drawn(small, steps=1)
        most = torch.cuda.max_memory_reserved() + 2**29
        del small
        release_memory()
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, most / torch.cuda.get_device_properties(bench.device).total_memory)
        )
    else:
        forward = generator._pipeline.unet.forward

        def limited(sample: torch.Tensor, *arguments: Any, **others: Any) -> Any:
            if len(sample) > batch:
                raise torch.OutOfMemoryError("more rows than this trial allows")
            return forward(sample, *arguments, **others)

        generator._pipeline.unet.forward = limited
    requests = [generator.request(PROMPT, seed, steps=1, guidance=GUIDANCE) for seed in range(batch)]
    with tempfile.TemporaryDirectory() as folder:
        made = len(fetch(ImageStore(Path(folder)), generator, requests))
    if bench.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)
    end = generator.batch_size
    print(f"\nmemory for less than {batch} images a pass: {made} made, {end} a pass at the end")
    if made != batch or end >= batch:
        bench.failed.append("a batch that does not fit was not halved")
    del generator
    release_memory()


def training(bench: Bench) -> None:
    from studies.phantom import write_phantom

    size = 32 if bench.smoke else ARCHITECTURES["sd15"].size
    write_phantom(bench.folder / "data", images=16 if bench.smoke else 64, size=size)
    job = TrainingJob(
        model=Path(bench.model),
        data=bench.folder / "data",
        size=size,
        steps=2 if bench.smoke else 20,
        batch=2 if bench.smoke else 8,
        rank=4 if bench.smoke else 16,
        precision="bf16",
        device=bench.device.type,
    )
    print(f"\ntraining of adapters, {size}x{size}, batch {job.batch}, rank {job.rank}, {job.precision}\n")
    print("| way | training images/s | seconds to the first step | peak memory, MiB |")
    print("| --- | --- | --- | --- |")
    order = ("plain latents text", "ours") if bench.smoke else ("plain", "ours", *list(WAYS)[1:-1])
    seen = {}
    for way in order:
        if bench.has_time(45, WAYS[way]):
            speed, first, peak = train(way, job)
            seen[way] = speed
            print(f"| {WAYS[way]} | {speed:.2f} | {first:.0f} | {peak:,.0f} |", flush=True)
    if "plain" in seen and "ours" in seen:
        print(f"\n{seen['ours'] / seen['plain']:.2f} times diffusers' loop; the goal is 1.5")


SECTIONS = (rates, correctness, generation, halving, training)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu-smoke", action="store_true", help="a tiny model on the CPU, in seconds")
    parser.add_argument("--minutes", type=float, default=8, help="no part is begun that would end later")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16, help="images a pass")
    options = parser.parse_args()
    if not options.cpu_smoke and not torch.cuda.is_available():
        raise SystemExit("no NVIDIA GPU is seen by torch; --cpu-smoke tries the script out without one")
    begun = time.monotonic()
    device = torch.device("cpu" if options.cpu_smoke else "cuda")
    if options.cpu_smoke:
        print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}: a trial, no measurement")
    else:
        card = torch.cuda.get_device_properties(device)
        print(f"{card.name}, {card.total_memory / 2**30:.0f} GiB, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(
            folder=Path(name),
            device=device,
            steps=2 if options.cpu_smoke else options.steps,
            batch=2 if options.cpu_smoke else options.batch,
            until=begun + 60 * options.minutes,
            smoke=options.cpu_smoke,
        )
        build("tiny" if bench.smoke else "sd15", Path(bench.model))
        for section in SECTIONS:
            section(bench)
    print(f"\n{time.monotonic() - begun:.0f} s")
    for fault in bench.failed:
        print(f"FAILED: {fault}", file=sys.stderr)
    raise SystemExit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
