"""Stable Diffusion 1.5, 2.1 and XL as their published configurations say, with random weights in them.

`build` writes one as a diffusers folder. `divisor` divides every width and nothing else, so that the model
keeps its depth and its proportions of text encoder, autoencoder and UNet. The tokenizer is the embedded
model's: its ids are a part of the vocabulary, whose size is the true one. "tiny" is for trying a script out.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from generators.loading import EMBEDDED

_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_PLAIN = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
}
_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_OPEN_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
_OPEN_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One family's configuration.

    Attributes:
        unet, vae, texts: what their published config.json files say beyond diffusers' defaults.
        scheduler: class and settings.
        parameters: of UNet, autoencoder and text encoders as published, in this order.
        size: pixels a side that it was trained for.
    """

    unet: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    scheduler: tuple[str, dict[str, Any]]
    size: int
    parameters: tuple[int, ...] = ()
    vae: dict[str, Any] = field(default_factory=dict)


ARCHITECTURES = {
    "sd15": Architecture(
        unet={**_PLAIN, "attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64},
        texts=(_CLIP_L,),
        scheduler=("PNDMScheduler", {"skip_prk_steps": True}),
        parameters=(859_520_964, 83_653_863, 123_060_480),
        size=512,
    ),
    "sd21": Architecture(
        unet={
            **_PLAIN,
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
            "sample_size": 96,
        },
        texts=({**_OPEN_H, "hidden_act": "gelu", "projection_dim": 512},),
        scheduler=("DDIMScheduler", {"prediction_type": "v_prediction", "clip_sample": False}),
        parameters=(865_910_724, 83_653_863, 340_387_840),
        size=768,
    ),
    "sdxl": Architecture(
        unet={
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
            "block_out_channels": (320, 640, 1280),
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
            "sample_size": 128,
        },
        texts=(
            {**_CLIP_L, "projection_dim": 768},
            {**_OPEN_G, "hidden_act": "gelu", "projection_dim": 1280},
        ),
        scheduler=("EulerDiscreteScheduler", {"timestep_spacing": "leading"}),
        vae={"scaling_factor": 0.13025, "force_upcast": True},
        parameters=(2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
        size=1024,
    ),
    "tiny": Architecture(
        unet={
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "attention_head_dim": 2,
            "cross_attention_dim": 16,
            "sample_size": 16,
        },
        texts=(
            {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        ),
        scheduler=("PNDMScheduler", {"skip_prk_steps": True}),
        vae={"block_out_channels": (8, 16), "layers_per_block": 1},
        size=32,
    ),
}


def build(name: str, folder: Path, *, divisor: int = 1, dtype: torch.dtype = torch.float32) -> Path:
    """Writes an architecture with random weights (seed 0) as a diffusers folder and returns it."""
    import diffusers
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    networks = build_networks(name, divisor=divisor, dtype=dtype)
    kind, settings = ARCHITECTURES[name].scheduler
    words = CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")
    common = {
        **networks,
        "tokenizer": words,
        "scheduler": getattr(diffusers, kind)(**_NOISE, **settings),
        "feature_extractor": None,
    }
    if "text_encoder_2" in networks:
        pipeline: Any = diffusers.StableDiffusionXLPipeline(
            **common, tokenizer_2=words, add_watermarker=False
        )
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **common, safety_checker=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(folder)
    return folder


def build_networks(name: str, *, divisor: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """UNet, autoencoder and text encoders by the names that pipelines give them."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    shape = ARCHITECTURES[name]
    unet = dict(shape.unet)
    unet["block_out_channels"] = tuple(width // divisor for width in unet["block_out_channels"])
    unet["cross_attention_dim"] //= divisor
    if "projection_class_embeddings_input_dim" in unet:
        unet["addition_time_embed_dim"] //= divisor
        unet["projection_class_embeddings_input_dim"] //= divisor
    if isinstance(unet["attention_head_dim"], tuple):  # a number of heads, whatever its name says
        unet["attention_head_dim"] = tuple(max(1, n // divisor) for n in unet["attention_head_dim"])
    vae = {**_VAE, **shape.vae}
    widths = vae["block_out_channels"] = tuple(width // divisor for width in vae["block_out_channels"])
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # no weight exists in float32 even for a moment
    try:
        networks: dict[str, Any] = {
            "unet": diffusers.UNet2DConditionModel(
                **unet, norm_num_groups=math.gcd(32, *unet["block_out_channels"])
            ),
            "vae": diffusers.AutoencoderKL(
                **vae,
                down_block_types=("DownEncoderBlock2D",) * len(widths),
                up_block_types=("UpDecoderBlock2D",) * len(widths),
                norm_num_groups=math.gcd(32, *widths),
                sample_size=shape.size,
            ),
            "text_encoder": CLIPTextModel(_text(shape.texts[0], divisor=divisor)),
        }
        if len(shape.texts) > 1:
            second = _text(shape.texts[1], divisor=divisor)
            networks["text_encoder_2"] = CLIPTextModelWithProjection(second)
    finally:
        torch.set_default_dtype(before)
    return networks


def _text(published: dict[str, Any], *, divisor: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTokenizer

    words = CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer")
    shape = dict(published)
    for key in ("hidden_size", "intermediate_size", "projection_dim"):
        if key in shape:
            shape[key] //= divisor
    while shape["hidden_size"] % shape["num_attention_heads"]:
        shape["num_attention_heads"] -= 1
    return CLIPTextConfig(
        vocab_size=49408,
        eos_token_id=words.eos_token_id,
        bos_token_id=words.bos_token_id,
        pad_token_id=words.pad_token_id,
        **shape,
    )
