"""What fusing a LoRA costs in fidelity and gains in speed, against diffusers' unfused adapter layers.

    python scripts/bench/lora_fusing.py [--device cpu] [--strength 0.1] [--images 8]

A random adapter (rank 8, alpha 16, all attention layers and the first convolutions, UNet and text encoder) of
the embedded model is written by `save_lora`. The same images are drawn from one file in each precision: by
`load("embedded+lora:...")`, which fuses in float32 and then casts, and by diffusers' `load_lora_weights`,
unfused. Both are compared with the unfused images in float32; beside them stands what the precision alone
does to the base model's images. Then the UNet's forward passes are timed in turns, and the fastest of each
is taken (not in float16 on a CPU, which hardly knows it).
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig

from generators.adapters.lora import find_adapter, split_uri
from generators.loading import EMBEDDED
from generators.stable_diffusion.diffusion import DiffusionGenerator
from generators.training import save_lora

UNET = ["to_q", "to_k", "to_v", "to_out.0", "conv1"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPT = "a colonoscopy image of a polyp"


def unfused(dtype: torch.dtype, device: str, adapter: Path | None) -> Any:
    """diffusers' own pipeline with its own adapter layers."""
    pipeline = StableDiffusionPipeline.from_pretrained(EMBEDDED, safety_checker=None, local_files_only=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        torch.nn.Module.float(part)
    if adapter is not None:
        pipeline.load_lora_weights(adapter)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        torch.nn.Module.to(part, dtype)
    return pipeline.to(device)


def fused(dtype: str, device: str, adapter: Path) -> Any:
    """The pipeline inside our generator."""
    _, addresses = split_uri(f"embedded+lora:{adapter}")
    adapters = [find_adapter(address) for address in addresses]
    return DiffusionGenerator(EMBEDDED, adapters=adapters, device=device, dtype=dtype)._pipeline


def write_adapter(folder: Path, strength: float) -> Path:
    """A random adapter in every layout."""
    pipeline = unfused(torch.float32, "cpu", None)
    pipeline.unet.add_adapter(LoraConfig(r=8, lora_alpha=16, target_modules=UNET))
    pipeline.text_encoder.add_adapter(LoraConfig(r=8, lora_alpha=16, target_modules=TEXT))
    generator = torch.Generator().manual_seed(0)
    for part in (pipeline.unet, pipeline.text_encoder):
        for name, weight in part.named_parameters():
            if "lora_" in name:
                weight.data = strength * torch.randn(weight.shape, generator=generator)
    return save_lora(folder, unet=pipeline.unet, text_encoder=pipeline.text_encoder, card="# Random")


def draw(pipeline: Any, images: int) -> np.ndarray:
    """(images, height, width, 3) in 0 to 1."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        [PROMPT] * images,
        num_inference_steps=20,
        guidance_scale=2.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(images)],
        output_type="np",
    ).images


def forward_times(pipelines: dict[str, Any], device: str, *, rounds: int = 15) -> dict[str, float]:
    """Seconds of the fastest forward pass of each UNet, measured in turns."""
    best = dict.fromkeys(pipelines, float("inf"))
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            unet = pipeline.unet
            size, width = unet.config.sample_size, unet.config.cross_attention_dim
            latents = torch.zeros(8, unet.config.in_channels, size, size, dtype=unet.dtype, device=device)
            words = torch.zeros(8, 77, width, dtype=unet.dtype, device=device)
            start = time.perf_counter()
            with torch.inference_mode():
                unet(latents, 500, words, return_dict=False)[0].float().sum().item()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--strength", type=float, default=0.1, help="SD of the adapter's matrices")
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        adapter = write_adapter(Path(root) / "lora", options.strength)
        base = draw(unfused(torch.float32, options.device, None), options.images)
        truth = draw(unfused(torch.float32, options.device, adapter), options.images)
        effect = np.abs(truth - base)
        print(f"The adapter changes the base model's images by {effect.mean():.4f} on average (0 to 1).\n")
        print("| precision | images | mean difference | largest | pixels off by a level of 256 |")
        print("|---|---|---|---|---|")
        timings: list[str] = []
        for name, dtype in DTYPES.items():
            pipelines = {
                "fused": fused(name, options.device, adapter),
                "unfused": unfused(dtype, options.device, adapter),
            }
            rows = [(kind, draw(pipeline, options.images), truth) for kind, pipeline in pipelines.items()]
            rows.append(("no adapter", draw(unfused(dtype, options.device, None), options.images), base))
            for kind, images, reference in rows:
                gap = np.abs(images - reference)
                off = (np.round(255 * images) != np.round(255 * reference)).mean()
                print(f"| {name} | {kind} | {gap.mean():.1e} | {gap.max():.1e} | {100 * off:.2f} % |")
            if name == "float16" and options.device == "cpu":
                continue
            pipelines["no adapter"] = unfused(dtype, options.device, None)
            times = forward_times(pipelines, options.device)
            slower = {kind: seconds / times["no adapter"] for kind, seconds in times.items()}
            timings.append(f"| {name} | {slower['fused']:.2f} | {slower['unfused']:.2f} |")
        print("\n| precision | fused UNet's time (no adapter = 1) | unfused |\n|---|---|---|")
        print("\n".join(timings))


if __name__ == "__main__":
    main()
