"""Networks of real size on a CPU: what each part of a use takes of time and memory.

    python scripts/bench/real_sizes.py sd15 [sd21] [sdxl] [--size 256] [--parts image train reload]

Each model has its published architecture and random weights in bfloat16, written as a diffusers folder. Then,
each in a process of its own so that peaks do not mix: one image; a LoRA (rank 4) trained for two steps;
the adapter read again in diffusers' and in kohya's layout, an image with each. A part that would need more
than --most GiB is left out and named.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from architectures import ARCHITECTURES, build

GIB = 2**30


@dataclass(frozen=True)
class Job:
    name: str
    folder: Path
    size: int
    steps: int

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def adapter(self) -> Path:
        return self.folder / "out" / "lora"


def write(job: Job) -> str:
    build(job.name, job.model, dtype=torch.bfloat16)
    return f"{sum(file.stat().st_size for file in job.model.rglob('*')) / GIB:.1f} GiB on the disk"


def draw(job: Job, adapter: Path | None = None) -> np.ndarray:
    from generators import load

    uri = f"{job.model}" if adapter is None else f"{job.model}+lora:{adapter}"
    begun = time.perf_counter()
    generator = load(uri, device="cpu", dtype="bfloat16", batch_size=1)
    print(f"    loaded in {time.perf_counter() - begun:.0f} s", flush=True)
    request = generator.request("a polyp", 0, steps=job.steps, guidance=5.0, width=job.size, height=job.size)
    return np.asarray(next(iter(generator.generate([request]))))


def image(job: Job) -> str:
    pixels = draw(job)
    np.save(job.folder / "plain.npy", pixels)
    return f"{pixels.shape[1]}x{pixels.shape[0]}, {len(np.unique(pixels))} levels"


def train(job: Job) -> str:
    from generators.training import SdTrainingSpec, train_sd
    from studies.dataset import read_dataset
    from studies.phantom import write_phantom

    write_phantom(job.folder / "data", images=12, size=job.size)
    spec = SdTrainingSpec.model_validate(
        {
            "size": job.size,
            "lora": {"rank": 4, "alpha": 4},
            "training": {
                "steps": 2,
                "batch_size": 1,
                "precision": "bf16",
                "train_text_encoder": False,
                "gradient_checkpointing": True,
                "warmup": 0,
                "lr": 0.02,  # so large that two steps are seen in the picture
                "ema_decay": 0,
                "long_captions": "cut",
            },
            "tracker": "none",
        }
    )
    times = []
    train_sd(
        spec,
        data=read_dataset(job.folder / "data"),
        out=job.folder / "out",
        init=job.model,
        device="cpu",
        on_progress=lambda progress: times.append((progress.stage, time.perf_counter())),
    )
    steps = [moment for stage, moment in times if stage == "unet"]
    files = sorted(str(file.relative_to(job.adapter)) for file in job.adapter.rglob("*.safetensors"))
    return f"a step {steps[-1] - steps[-2]:.0f} s; wrote {', '.join(files)}"


def reload(job: Job) -> str:
    plain = np.load(job.folder / "plain.npy").astype(int)
    first = draw(job, job.adapter).astype(int)
    second = draw(job, job.adapter / "kohya.safetensors").astype(int)
    moved, apart = np.abs(first - plain).mean(), np.abs(first - second).max()
    return f"the adapter moves a pixel by {moved:.1f} levels; kohya's file differs by {apart} at most"


PARTS: dict[str, Callable[[Job], str]] = {"write": write, "image": image, "train": train, "reload": reload}


def measured(pipe: Connection, part: str, job: Job) -> None:
    begun = time.perf_counter()
    said = PARTS[part](job)
    seconds = time.perf_counter() - begun
    # kilobytes on Linux, bytes on macOS
    unit = 2**30 if sys.platform == "darwin" else 2**20
    pipe.send((said, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit))


def run(part: str, job: Job) -> bool:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measured, args=(there, part, job))
    process.start()
    there.close()
    try:
        said, seconds, peak = here.recv()
        print(f"| {job.name} | {part} | {seconds:.0f} | {peak:.1f} | {said} |", flush=True)
    except EOFError:
        process.join()
        print(f"| {job.name} | {part} | failed | exit status {process.exitcode} | |", flush=True)
        return False
    process.join()
    return True


def memory(name: str, part: str) -> float:
    """GiB that a part is expected to need: its weights, and 2 for libraries, activations and copies.

    diffusers reads them as float32; they become bfloat16 afterwards.
    """
    return (2 if part == "write" else 4) * sum(ARCHITECTURES[name].parameters) / GIB + 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=["sd15", "sd21", "sdxl"])
    parser.add_argument("--size", type=int, default=256, help="pixels a side of images and training pictures")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--parts", nargs="*", choices=list(PARTS)[1:], default=list(PARTS)[1:])
    parser.add_argument("--most", type=float, default=14, help="GiB that a part may take")
    parser.add_argument("--folder", type=Path, help="where the models are written; default: a temporary one")
    options = parser.parse_args()
    print("| model | part | seconds | peak memory, GiB | |\n| --- | --- | --- | --- | --- |", flush=True)
    done = True
    for name in options.names:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            job = Job(name, Path(folder), options.size, options.steps)
            for part in ("write", *options.parts):
                needed = memory(name, part)
                if needed > options.most:
                    print(f"| {name} | {part} | left out | needs about {needed:.0f} | |", flush=True)
                    continue
                if not (done := run(part, job)):
                    break
    raise SystemExit(0 if done else 1)


if __name__ == "__main__":
    main()
