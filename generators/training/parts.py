"""The parts of a Stable Diffusion (1.x, 2.x, XL): built from a recipe, read from a folder, written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors import SafetensorError
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from generators.folder import refuse_pickle
from generators.stable_diffusion.networks import load_networks, save_for_both
from generators.training.spec import SdTrainingSpec
from generators.training.tokenizer import MAX_TOKENS, save_tokenizer
from promptopt.base.errors import ArgumentError
from promptopt.base.files import new_folder

_PIPELINES: dict[str, Any] = {
    "StableDiffusionPipeline": StableDiffusionPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
}
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass
class Parts:
    """What a pipeline is made of; the networks are in float32 while they learn. XL has a second encoder."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: Any
    tokenizer_2: CLIPTokenizer | None = None
    text_encoder_2: Any = None
    zeros_for_empty_prompt: bool = True

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """The networks by the names that pipelines give them."""
        named = {"vae": self.vae, "unet": self.unet, "text_encoder": self.text_encoder}
        return named if self.text_encoder_2 is None else {**named, "text_encoder_2": self.text_encoder_2}

    def pipeline(self) -> DiffusionPipeline:
        """The pipeline of these very parts, without a safety checker (it blackens endoscopy)."""
        common = {
            "vae": self.vae,
            "text_encoder": self.text_encoder,
            "tokenizer": self.tokenizer,
            "unet": self.unet,
            "scheduler": self.scheduler,
            "feature_extractor": None,
        }
        if self.text_encoder_2 is None:
            return StableDiffusionPipeline(**common, safety_checker=None, requires_safety_checker=False)
        return StableDiffusionXLPipeline(
            **common,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer_2,
            force_zeros_for_empty_prompt=self.zeros_for_empty_prompt,
            add_watermarker=False,
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
    """Read a pipeline folder of the SD 1.x, 2.x or XL family, safetensors only. May raise ValueError."""
    refuse_pickle(folder)
    index = folder / "model_index.json"
    if not index.is_file():
        raise ArgumentError(f"{folder}: not a diffusers pipeline folder (it has no model_index.json)")
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{index}: cannot be read ({error}); download the checkpoint again") from error
    if kind not in _PIPELINES:
        raise ArgumentError(f"{index}: is of a {kind}; give one of {', '.join(_PIPELINES)}")
    checker: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
    networks = load_networks(folder, error=ArgumentError)
    try:
        pipe = _PIPELINES[kind].from_pretrained(
            folder,
            feature_extractor=None,
            use_safetensors=True,
            local_files_only=True,
            **networks,
            **(checker if kind == "StableDiffusionPipeline" else {}),
        )
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ArgumentError(
            f"cannot be read as a {kind} ({error})", file=folder, remedy="Download or save it again."
        ) from error
    parts = Parts(
        *(pipe.tokenizer, pipe.text_encoder, pipe.vae, pipe.unet, pipe.scheduler),
        tokenizer_2=getattr(pipe, "tokenizer_2", None),
        text_encoder_2=getattr(pipe, "text_encoder_2", None),
        zeros_for_empty_prompt=bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
    )
    for network in parts.networks.values():
        # by torch's own method: diffusers' warns of layers that it does not have, and from_pretrained calls
        # the argument torch_dtype or dtype depending on its version
        torch.nn.Module.to(network, torch.float32)
    return parts


def configuration(part: Any) -> dict[str, str]:
    """What a part of diffusers was configured with, without notes of its version and origin."""
    return {key: repr(value) for key, value in part.config.items() if not key.startswith("_")}


def export(parts: Parts, folder: Path, *, dtype: str, card: str) -> Path:
    """Write a pipeline folder with its model card, whole or not at all. The parts are cast to ``dtype``."""
    for module in parts.networks.values():
        torch.nn.Module.to(module.requires_grad_(False), device="cpu", dtype=_DTYPES[dtype])
        module.to(memory_format=torch.contiguous_format)
        if any(not bool(torch.isfinite(tensor).all()) for tensor in module.parameters()):
            raise ArgumentError(
                f"a weight of {type(module).__name__} does not fit {dtype}; export_dtype: float32"
            )
    with new_folder(folder) as partial:
        parts.pipeline().save_pretrained(partial, safe_serialization=True)
        save_for_both(partial / "text_encoder")
        for file in partial.glob("*/config.json"):
            content = json.loads(file.read_text(encoding="utf-8"))
            content.pop("_name_or_path", None)  # where a part once lay on this machine
            file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_tokenizer(parts.tokenizer, partial / "tokenizer")
        if parts.tokenizer_2 is not None:
            save_tokenizer(parts.tokenizer_2, partial / "tokenizer_2")
        (partial / "README.md").write_text(card, encoding="utf-8")
    return folder
