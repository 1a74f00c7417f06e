"""Training with adapters: diffusers' own example's loop against ours, in one run and the same settings.

    python scripts/bench/training_speed.py [--steps 40] [--batch 16] [--rank 16] [--model FOLDER]
    python scripts/bench/training_speed.py --sd15 [--divisor 8 --size 128] [--cached]

The plain way is the loop of diffusers' train_text_to_image_lora.py: every step opens its pictures, resizes
and flips them, encodes them with the VAE and their captions with the text encoder. Ours reads cached latents
and text. Both train the same model on the same phantom pictures at one precision, each in a process of its
own, so that peaks of memory do not mix. --sd15 takes Stable Diffusion 1.5's architecture with random weights
at 512x512, for a GPU; with --divisor every width is divided, so that the proportions of autoencoder, text
encoder and UNet stay. --cached adds the example's loop with latents, text or both encoded beforehand.
On a CPU processor time counts, which other work on the machine changes little: give it one thread.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    cached: tuple[str, ...] = ()  # before the example's loop: "latents", "text"


def plain(job: Job, tick: Callable[[], None]) -> None:
    """The example's loop, without its argument parsing and its checkpoints."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from peft import LoraConfig
    from PIL import Image
    from torchvision import transforms

    place = Accelerator(
        mixed_precision={"bf16": "bf16", "float32": "no"}[job.precision], cpu=job.device == "cpu"
    )
    half = torch.bfloat16 if job.precision == "bf16" else torch.float32
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

    def encoded(pixels: torch.Tensor) -> torch.Tensor:
        """Mean and log-variance of latents."""
        made: torch.Tensor = pipe.vae.encode(pixels.to(place.device, half)).latent_dist.parameters
        return made

    def read(ids: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = pipe.text_encoder(ids.to(place.device))[0]
        return made

    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    if job.cached:  # a cache keeps the flip that it was made with
        for row in rows:
            pixels, ids = (part[None] for part in example(row))
            latents = encoded(pixels) if "latents" in job.cached else pixels
            context = read(ids) if "text" in job.cached else ids
            kept[row["file_name"]] = latents[0], context[0]

    def prepared(row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(job.cached) == 2:
            return kept[row["file_name"]]
        pixels, ids = example(row)
        latents, context = kept.get(row["file_name"], (pixels, ids))
        return (latents if "latents" in job.cached else pixels), (context if "text" in job.cached else ids)

    def together(batch: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, ids = zip(*(prepared(row) for row in batch), strict=True)
        return torch.stack(pixels), torch.stack(ids)

    loader = torch.utils.data.DataLoader(rows, shuffle=True, batch_size=job.batch, collate_fn=together)
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    unet, optimizer, loader = place.prepare(pipe.unet, optimizer, loader)
    done = 0
    while True:
        for pixels, ids in loader:
            latents = pixels if "latents" in job.cached else encoded(pixels)
            latents = DiagonalGaussianDistribution(latents).sample() * pipe.vae.config.scaling_factor
            drawn = torch.randn_like(latents)
            times = torch.randint(0, noise.config.num_train_timesteps, (len(latents),), device=latents.device)
            noisy = noise.add_noise(latents, drawn, times)
            context = ids if "text" in job.cached else read(ids)
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


def encoding_share(model: Path, size: int) -> float:
    """FLOP of encoding a picture over those of the UNet's forward pass on it; 1.39 for SD 1.5 at 512x512."""
    from diffusers import StableDiffusionPipeline
    from torch.utils.flop_counter import FlopCounterMode

    pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    side, width = size // pipe.vae_scale_factor, pipe.unet.config.cross_attention_dim
    found = []
    for network, arguments in (
        (pipe.vae.encode, (torch.zeros(1, 3, size, size),)),
        (pipe.unet, (torch.zeros(1, 4, side, side), torch.tensor(1), torch.zeros(1, 77, width))),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*arguments)
        found.append(counter.get_total_flops())
    return found[0] / found[1]


def measured(pipe: Connection, way: str, job: Job) -> None:
    times: list[float] = []
    clock = time.process_time if job.device == "cpu" else time.perf_counter
    begun = clock()

    def tick() -> None:
        if job.device != "cpu":
            torch.cuda.synchronize()
        times.append(clock())

    {"plain": plain, "ours": ours}[way.split(" ")[0]](job, tick)
    steady = times[ROUNDS_OFF - 1 :]
    speed = job.batch * (len(steady) - 1) / (steady[-1] - steady[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if job.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**20
    pipe.send((speed, times[0] - begun, peak))


WAYS = {
    "plain": "diffusers' example loop",
    "plain latents": "the same, latents encoded beforehand",
    "plain text": "the same, text encoded beforehand",
    "plain latents text": "the same, both encoded beforehand",
    "ours": "promptopt train sd",
}


def run(way: str, job: Job) -> tuple[float, float, float]:
    """Training images a second, seconds to the first step, peak memory in MiB, in a process of its own."""
    job = replace(job, cached=tuple(way.split(" ")[1:]))
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
    parser.add_argument("--divisor", type=int, default=1, help="with --sd15: of every width")
    parser.add_argument("--cached", action="store_true", help="the example's loop with caches, too")
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
            from architectures import build

            model, size = build("sd15", folder / "sd15", divisor=options.divisor), options.size or 512
        share = encoding_share(model, size)
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
        ways = WAYS if options.cached else ("plain", "ours")
        found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, results in found.items():
                results.append(run(way, job))
    slowest = max(speed for speed, _, _ in found["plain"])
    print(f"{job.device}, {size}x{size}, batch {job.batch}, rank {job.rank}, {job.precision}")
    print(f"encoding a picture costs {share:.2f} of a UNet's forward pass\n")
    print("| way | training images/s, ratio | images/s | seconds to the first step | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- |")
    for way, results in found.items():
        speed, first, peak = max(results)
        print(f"| {WAYS[way]} | {speed / slowest:.2f} | {speed:.1f} | {first:.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
