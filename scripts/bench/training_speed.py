"""Training with adapters: diffusers' own example's loop against ours, in one run and the same settings.

    python scripts/bench/training_speed.py [--steps 40] [--batch 16] [--rank 16] [--model FOLDER] [--sd15]

The plain way is the loop of diffusers' train_text_to_image_lora.py: every step opens its pictures, resizes
and flips them, encodes them with the VAE and their captions with the text encoder. Ours reads cached latents
and text. Both train the same model on the same phantom pictures at one precision, each in a process of its
own, so that peaks of memory do not mix. --sd15 takes Stable Diffusion 1.5's architecture with random weights
at 512x512, for a GPU.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

ROUNDS_OFF = 3  # steps before the clock starts


@dataclass(frozen=True)
class Job:
    model: Path
    data: Path
    size: int
    steps: int
    batch: int
    rank: int
    precision: str
    device: str


def plain(job: Job, tick: Callable[[], None]) -> None:
    """The example's loop, without its argument parsing and its checkpoints."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from peft import LoraConfig
    from PIL import Image
    from torchvision import transforms

    place = Accelerator(
        mixed_precision={"bf16": "bf16", "float32": "no"}[job.precision], cpu=job.device == "cpu"
    )
    half = torch.bfloat16 if job.precision == "bf16" and place.device.type == "cuda" else torch.float32
    pipe = StableDiffusionPipeline.from_pretrained(job.model, safety_checker=None)
    noise = DDPMScheduler.from_config(pipe.scheduler.config)
    for network in (pipe.vae, pipe.unet, pipe.text_encoder):
        network.requires_grad_(False)
        network.to(place.device, half)
    pipe.unet.add_adapter(
        LoraConfig(r=job.rank, lora_alpha=job.rank, target_modules=["to_k", "to_q", "to_v", "to_out.0"])
    )
    trained = [p for p in pipe.unet.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    rows = [json.loads(line) for line in (job.data / "metadata.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["pool"] == "reference"]
    prepare = transforms.Compose(
        [
            transforms.Resize(job.size, interpolation=transforms.InterpolationMode.LANCZOS),
            transforms.CenterCrop(job.size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )

    def example(row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        text = row["text"] if isinstance(row["text"], str) else row["text"][0]
        ids = pipe.tokenizer(
            text, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids[0]
        return prepare(Image.open(job.data / row["file_name"]).convert("RGB")), ids

    def together(batch: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, ids = zip(*map(example, batch), strict=True)
        return torch.stack(pixels), torch.stack(ids)

    loader = torch.utils.data.DataLoader(rows, shuffle=True, batch_size=job.batch, collate_fn=together)
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    unet, optimizer, loader = place.prepare(pipe.unet, optimizer, loader)
    done = 0
    while True:
        for pixels, ids in loader:
            latents = pipe.vae.encode(pixels.to(half)).latent_dist.sample() * pipe.vae.config.scaling_factor
            drawn = torch.randn_like(latents)
            times = torch.randint(0, noise.config.num_train_timesteps, (len(latents),), device=latents.device)
            noisy = noise.add_noise(latents, drawn, times)
            context = pipe.text_encoder(ids)[0]
            target = drawn
            if noise.config.prediction_type == "v_prediction":
                target = noise.get_velocity(latents, drawn, times)
            with place.autocast():
                made = unet(noisy, times, context, return_dict=False)[0]
            loss = F.mse_loss(made.float(), target.float())
            place.backward(loss)
            place.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            tick()
            done += 1
            if done == job.steps + ROUNDS_OFF:
                return


def ours(job: Job, tick: Callable[[], None]) -> None:
    from generators.training import Progress, SdTrainingSpec, train_sd
    from studies.dataset import read_dataset

    spec = SdTrainingSpec.model_validate(
        {
            "size": job.size,
            "vae_training": {"steps": 0},
            "lora": {"rank": job.rank, "alpha": job.rank},
            "training": {
                "steps": job.steps + ROUNDS_OFF,
                "batch_size": job.batch,
                "precision": job.precision,
                "train_text_encoder": False,
                "lr_schedule": "constant",
                "lr": 1e-4,
                "checkpoint_every": 10**6,
                "horizontal_flip": "swap",
                "long_captions": "cut",
            },
            "tracker": "none",
        }
    )

    def heard(progress: Progress) -> None:
        if progress.stage == "unet":
            tick()

    with tempfile.TemporaryDirectory() as folder:
        train_sd(
            spec,
            data=read_dataset(job.data),
            out=Path(folder),
            init=job.model,
            device=job.device,
            on_progress=heard,
        )


def measured(pipe: Connection, way: str, job: Job) -> None:
    times: list[float] = []
    begun = time.perf_counter()

    def tick() -> None:
        if job.device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    {"plain": plain, "ours": ours}[way](job, tick)
    steady = times[ROUNDS_OFF - 1 :]
    speed = job.batch * (len(steady) - 1) / (steady[-1] - steady[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if job.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**20
    pipe.send((speed, times[0] - begun, peak))


def run(way: str, job: Job) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measured, args=(there, way, job))
    process.start()
    there.close()
    try:
        result: tuple[float, float, float] = here.recv()
    except EOFError:
        raise SystemExit(f"the {way} way ended without a result") from None
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a Stable Diffusion folder; default: the embedded one")
    parser.add_argument("--sd15", action="store_true")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--size", type=int, help="default: 64, with --sd15 512")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument(
        "--rounds", type=int, default=2, help="each way so many times, by turns; the best counts"
    )
    options = parser.parse_args()
    from generators.loading import EMBEDDED
    from studies.phantom import write_phantom

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, size = options.model or EMBEDDED, options.size or 64
        if options.sd15:
            from generation_speed import build_sd15

            model, size = folder / "sd15", options.size or 512
            build_sd15(model, tiny=False)
        write_phantom(folder / "data", images=options.pictures, size=size)
        job = Job(
            model=model,
            data=folder / "data",
            size=size,
            steps=options.steps,
            batch=options.batch,
            rank=options.rank,
            precision=options.precision,
            device="cuda" if torch.cuda.is_available() else "cpu",
        )
        found: dict[str, list[tuple[float, float, float]]] = {"plain": [], "ours": []}
        for _ in range(options.rounds):
            for way, results in found.items():
                results.append(run(way, job))
    names = {"plain": "diffusers' example loop", "ours": "promptopt train sd"}
    slowest = max(speed for speed, _, _ in found["plain"])
    print(f"{job.device}, {size}x{size}, batch {job.batch}, rank {job.rank}, {job.precision}\n")
    print("| way | training images/s, ratio | images/s | seconds to the first step | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- |")
    for way, results in found.items():
        speed, first, peak = max(results)
        print(f"| {names[way]} | {speed / slowest:.2f} | {speed:.1f} | {first:.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
