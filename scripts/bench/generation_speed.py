"""How fast images are made, against the plain diffusers way: one pipeline call a prompt.

    python scripts/bench/generation_speed.py [--model embedded] [--prompts 4] [--seeds 8] [--rounds 3]
    python scripts/bench/generation_speed.py --sd15            # on an NVIDIA GPU: 512x512, 20 steps
    python scripts/bench/generation_speed.py --sd15 --tiny     # the same path in small, for a CPU

All ways make the same images (prompts, seeds, steps, guidance, sampler, number format) and write them as
PNG. Each lives in a process of its own, so that its peak memory is its own, and they take turns, so that
speeds are ratios within one run. The first round of each (compilation, warm-up) does not count, the fastest
of the others does. --sd15 builds the architecture of Stable Diffusion 1.5 from its configurations, random
weights in it. The matmul limit is what a large matrix product reaches here, over the FLOP of one image.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import build
from PIL import Image

from generators import ImageStore, load
from generators.fetching import fetch
from generators.loading import resolve
from generators.stable_diffusion.runtime import choose_runtime
from generators.stable_diffusion.schedulers import make_scheduler

PROMPTS = (
    "a colonoscopy image of a polyp",
    "a colonoscopy image of a biopsy forceps",
    "an endoscopy image of the pylorus",
    "a metal clip in the colon",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every way makes, and how."""

    uri: str
    device: str
    dtype: str
    steps: int
    guidance: float
    jobs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to make the images; batch_size None is the plain diffusers one."""

    name: str
    batch_size: int | str | None
    compile: str = "off"


def start_plain(job: Job) -> tuple[Callable[[Path], list[Path]], str]:
    """The pipeline as its documentation calls it."""
    import diffusers

    ours = load(job.uri, device="cpu", compile="off").request("a", 0)
    runtime = choose_runtime(device=job.device, dtype=job.dtype, compile_="off")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        resolve(job.uri), torch_dtype=runtime.dtype, safety_checker=None
    ).to(runtime.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(ours.scheduler, pipeline.scheduler)

    def make(folder: Path) -> list[Path]:
        paths = [folder / f"{index}.png" for index in range(len(job.jobs))]
        for path, (prompt, seed) in zip(paths, job.jobs, strict=True):
            pipeline(
                prompt,
                num_inference_steps=job.steps,
                guidance_scale=job.guidance,
                generator=torch.Generator().manual_seed(seed),
            ).images[0].save(path)
        return paths

    return make, "1"


def start_ours(job: Job, way: Way) -> tuple[Callable[[Path], list[Path]], str]:
    generator: Any = load(
        job.uri,
        device=job.device,
        dtype=job.dtype,
        batch_size=way.batch_size,  # type: ignore[arg-type]
        compile=way.compile,  # type: ignore[arg-type]
    )

    def make(folder: Path) -> list[Path]:
        requests = [
            generator.request(prompt, seed, steps=job.steps, guidance=job.guidance)
            for prompt, seed in job.jobs
        ]
        return [stored.path for stored in fetch(ImageStore(folder), generator, requests)]

    return make, f"{generator.batch_size}{', compiled' if generator.runtime.compiled else ''}"


def worker(pipe: Connection, job: Job, way: Way) -> None:
    """Serves rounds until told to stop: sends seconds, then the images of the last, then the peak memory."""
    make, batch = start_plain(job) if way.batch_size is None else start_ours(job, way)
    pipe.send(batch)
    pixels: list[np.ndarray] = []
    while pipe.recv():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            paths = make(Path(folder))
            pipe.send(time.perf_counter() - start)
            pixels = [np.asarray(Image.open(path)) for path in paths]
    pipe.send((np.stack(pixels), peak_mib()))


@contextmanager
def started(job: Job, ways: list[Way]) -> Iterator[list[tuple[Connection, str]]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for way in ways:  # one after the other: a trial of batch sizes wants the machine for itself
        here, there = context.Pipe()
        process = context.Process(target=worker, args=(there, job, way), daemon=True)
        process.start()
        there.close()
        processes.append(process)
        pipes.append((here, here.recv()))
    yield pipes
    for process in processes:
        process.join()


def peak_mib() -> float:
    """Of this process: on the GPU what torch allocated there, else resident memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product, the best of some."""
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def image_flop(job: Job) -> float:
    """FLOP (not MAC) of one image: one step counted, and what a further one adds times the others."""
    from torch.utils.flop_counter import FlopCounterMode

    generator = load(job.uri, device=job.device, dtype=job.dtype, batch_size=1, compile="off")
    totals = []
    for steps in (2, 3):
        with FlopCounterMode(display=False) as counter:
            list(generator.generate([generator.request("a", 0, steps=steps, guidance=job.guidance)]))
        totals.append(counter.get_total_flops())
    return totals[0] + (job.steps - 2) * (totals[1] - totals[0])


def bench(job: Job, *, rounds: int, trial: bool) -> None:
    runtime = choose_runtime(device=job.device, dtype=job.dtype, compile_="off")
    ways = [
        Way(name="diffusers, a call a prompt", batch_size=None),
        Way(name="ours, one image a pass", batch_size=1),
        Way(name="ours", batch_size="auto" if trial else (16 if runtime.on_gpu else 8), compile="auto"),
    ]
    with started(job, ways) as pipes:
        seconds: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds + 1):
            for (pipe, _), own in zip(pipes, seconds, strict=True):
                pipe.send(True)
                own.append(pipe.recv())
        ends = []
        for pipe, _ in pipes:
            pipe.send(False)
            ends.append(pipe.recv())
    best = [min(own[1:]) for own in seconds]
    limit = matmul_rate(runtime.device, runtime.dtype) / image_flop(job)
    where = torch.cuda.get_device_name() if runtime.on_gpu else f"CPU, {torch.get_num_threads()} threads"
    images = len(job.jobs)
    print(f"\n{images} images, {job.steps} steps, guidance {job.guidance}, {runtime.dtype_name}, {where}\n")
    print("| way | images a pass | speed | of the matmul limit | peak memory, MiB | off by, levels of 255 |")
    print("|---|---|---|---|---|---|")
    for way, (_, batch), time_, (pixels, peak) in zip(ways, pipes, best, ends, strict=True):
        off = np.abs(pixels.astype(int) - ends[0][0].astype(int))
        speed = f"{best[0] / time_:.2f}" + (f" ({images / time_:.2f} images/s)" if runtime.on_gpu else "")
        share = images / time_ / limit
        print(f"| {way.name} | {batch} | {speed} | {share:.1%} | {peak:,.0f} | {off.mean():.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="any URI of generators.load")
    parser.add_argument("--sd15", action="store_true", help="Stable Diffusion 1.5's architecture instead")
    parser.add_argument("--tiny", action="store_true", help="with --sd15: every width shrunk")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=8, help="images a prompt")
    parser.add_argument("--steps", type=int, help="the model's own, 20 with --sd15")
    parser.add_argument("--guidance", type=float, help="the model's own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--trial", action="store_true", help="find the batch size by trial; always with --sd15"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = chosen.model
        if chosen.sd15:
            uri = folder
            build("sd15", Path(folder), divisor=8 if chosen.tiny else 1)
        own = load(uri, device="cpu", compile="off").request("a", 0)
        texts = [PROMPTS[i % len(PROMPTS)] + " ," * (i // len(PROMPTS)) for i in range(chosen.prompts)]
        job = Job(
            uri=uri,
            device=chosen.device,
            dtype=chosen.dtype,
            steps=chosen.steps or (20 if chosen.sd15 else own.steps),
            guidance=own.guidance if chosen.guidance is None else chosen.guidance,
            jobs=tuple((text, seed) for text in texts for seed in range(chosen.seeds)),
        )
        bench(job, rounds=chosen.rounds, trial=chosen.trial or chosen.sd15)


if __name__ == "__main__":
    main()
