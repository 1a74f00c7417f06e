"""Random LoRA adapters on the tiny pipeline, and its images in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig

UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.2", "conv1"]
TEXT = ["q_proj", "v_proj", "fc1"]


def plain_pipeline(folder: Path) -> Any:
    """diffusers' own pipeline of a folder, in float32 and silent."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        torch.nn.Module.float(part)
    return pipeline


def adapted_pipeline(
    folder: Path,
    *,
    seed: int = 0,
    strength: float = 0.3,
    text: bool = True,
    own_text: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """The pipeline with trained-looking adapters, alpha unlike rank, of its UNet and its text encoder.

    The matrices are normal with SD `strength`; `own_text` holds settings of the text encoder alone.
    """
    pipeline = plain_pipeline(folder)
    own: dict[str, Any] = {"r": 4, "lora_alpha": 7, "target_modules": UNET, **settings}
    own["target_modules"] = [
        name
        for name in own["target_modules"]
        if any(n.endswith(name) for n, _ in pipeline.unet.named_modules())
    ]
    pipeline.unet.add_adapter(LoraConfig(**own))
    if text:
        pipeline.text_encoder.add_adapter(
            LoraConfig(**{"r": 2, "lora_alpha": 5, **settings, **(own_text or {}), "target_modules": TEXT})
        )
    generator = torch.Generator().manual_seed(seed)
    for part in (pipeline.unet, pipeline.text_encoder):
        for name, weight in part.named_parameters():
            if "lora_" in name:
                # Filled, not only disturbed: the global random state that PEFT draws from has no say.
                noise = strength * torch.randn(weight.shape, generator=generator)
                weight.data = weight.data * (1 + noise / 3) if "magnitude" in name else noise
    return pipeline


def draw(pipeline: Any) -> np.ndarray:
    """(2, height, width, 3) in 0 to 1, guided."""
    with torch.no_grad():
        return pipeline(
            ["a polyp", "a z-line"],
            num_inference_steps=3,
            guidance_scale=3.0,
            generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
            output_type="np",
        ).images


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of any channel of any pixel."""
    return float(np.abs(one - other).max())
