"""The five parts of a Stable Diffusion: built from a recipe, read from a folder, shown, written."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from generators.training.spec import SdTrainingSpec
from generators.training.tokenizer import MAX_TOKENS, save_tokenizer

_DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass
class Parts:
    """What a `StableDiffusionPipeline` is made of; the networks are in float32 while they learn."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: Any

    def pipeline(self) -> StableDiffusionPipeline:
        """The pipeline of these very parts, without a safety checker (it blackens endoscopy)."""
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def build_text_encoder(spec: SdTrainingSpec, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for a tokenizer's vocabulary; the recipe's seed sets its weights."""
    part = spec.text_encoder
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=part.hidden_size,
        intermediate_size=part.intermediate_size,
        num_hidden_layers=part.layers,
        num_attention_heads=part.heads,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=part.hidden_size,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.training.seed)
        return CLIPTextModel(config)


def build_unet(spec: SdTrainingSpec) -> UNet2DConditionModel:
    """An untrained UNet; the recipe's seed sets its weights."""
    part = spec.unet
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in part.attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(part.attention)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.training.seed)
        return UNet2DConditionModel(
            sample_size=spec.size // spec.vae.factor,
            in_channels=spec.vae.latent_channels,
            out_channels=spec.vae.latent_channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=part.channels,
            layers_per_block=part.layers_per_block,
            cross_attention_dim=spec.text_encoder.hidden_size,
            # the name is diffusers' old mistake: this is the number of heads
            attention_head_dim=tuple(max(1, width // part.head_dim) for width in part.channels),
            norm_num_groups=part.norm_groups,
        )


def build_scheduler(*, prediction_type: str, zero_terminal_snr: bool) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ 2M over SD's noise schedule; trailing steps, so that sampling begins at pure noise."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def load_parts(folder: Path) -> Parts:
    """Read a pipeline folder of the SD 1.x or 2.x family, safetensors only. Raises ValueError naming it."""
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder}: not a diffusers pipeline folder (it has no model_index.json)")
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            folder,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            use_safetensors=True,
            local_files_only=True,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: cannot be read as a Stable Diffusion pipeline: {error}") from error
    return Parts(pipe.tokenizer, pipe.text_encoder, pipe.vae, pipe.unet, pipe.scheduler)


def save_grid(
    parts: Parts,
    prompts: Sequence[str],
    *,
    path: Path,
    size: int,
    steps: int,
    guidance: float,
    columns: int = 4,
) -> Path:
    """Draw every prompt with the seeds 0, 1, ... into a PNG, one row a prompt."""
    pipe = parts.pipeline()
    pipe.set_progress_bar_config(disable=True)
    grid = Image.new("RGB", (columns * size, len(prompts) * size))
    for row, prompt in enumerate(prompts):
        images = pipe(
            [prompt] * columns,
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in range(columns)],
        ).images
        for column, image in enumerate(images):
            grid.paste(image, (column * size, row * size))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)
    return path


def export(parts: Parts, folder: Path, *, dtype: str, card: str) -> Path:
    """Write a pipeline folder with its model card, whole or not at all. The parts are cast to ``dtype``."""
    for module in (parts.vae, parts.unet, parts.text_encoder):
        module.requires_grad_(False).to(device="cpu", dtype=_DTYPES[dtype])
        module.to(memory_format=torch.contiguous_format)
        if any(not bool(torch.isfinite(tensor).all()) for tensor in module.parameters()):
            raise ValueError(
                f"a weight of {type(module).__name__} does not fit {dtype}; export_dtype: float32"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    parts.pipeline().save_pretrained(aside, safe_serialization=True)
    for file in aside.glob("*/config.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        content.pop("_name_or_path", None)  # where a part once lay on this machine
        file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_tokenizer(parts.tokenizer, aside / "tokenizer")
    (aside / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder
