"""Loading a diffusers folder, Stable Diffusion or SDXL, ready for a runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from generators.errors import GeneratorError
from generators.folder import SDXL, pipeline_class
from generators.stable_diffusion.networks import NETWORKS, load_networks, quiet_loading
from generators.stable_diffusion.runtime import Runtime

_SHAPES = 64  # combinations of size and guidance on or off; torch gives up at 8 and runs uncompiled


def load_pipeline(folder: Path) -> Any:
    """The folder's diffusers pipeline on the CPU, in the folder's number format, with no safety checker.

    Raises:
        GeneratorError: diffusers cannot load it, a network has tensors that its file lacks or lacks some that
            it holds, or it makes images from more than text.
    """
    import diffusers

    class_name = pipeline_class(folder)
    never: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
    if class_name == SDXL:
        never["add_watermarker"] = False
    else:
        # it paints false positives black, often so on endoscopy
        never |= {"safety_checker": None, "requires_safety_checker": False}
    try:
        networks = load_networks(folder)
        with quiet_loading():
            pipeline = getattr(diffusers, class_name).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, **networks, **never
            )
    except GeneratorError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise GeneratorError(
            f"{folder}: diffusers cannot load it ({error}); complete the download, or save the pipeline again"
        ) from error
    unet, vae = pipeline.unet, pipeline.vae
    if unet.config.in_channels != vae.config.latent_channels:
        raise GeneratorError(
            f"{folder}: the UNet takes {unet.config.in_channels} channels, "
            f"the VAE makes {vae.config.latent_channels}; "
            "inpainting and image-to-image models cannot make images from text alone"
        )
    if unet.config.time_cond_proj_dim is not None:
        raise GeneratorError(
            f"{folder}: the UNet takes the guidance scale as input (time_cond_proj_dim: a distilled model); "
            "take the model it was distilled from"
        )
    return pipeline


def place(pipeline: Any, runtime: Runtime) -> None:
    """Casts and moves the pipeline's networks to the runtime, in place."""
    for name in NETWORKS:
        module = getattr(pipeline, name, None)
        if module is None:
            continue
        dtype = runtime.dtype
        if name == "vae" and needs_float32(pipeline, dtype):
            dtype = torch.float32
        # By torch's own method, since diffusers' warns about layers kept in float32, of which there are none,
        # and about half precision on a CPU; its from_pretrained takes torch_dtype or dtype by its version.
        torch.nn.Module.to(module, runtime.device, dtype)
        module.requires_grad_(False).eval()
    if runtime.on_gpu:  # the layout its convolutions take without a copy
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)


def compile_networks(pipeline: Any, *, backend: str | Callable[..., Any] = "inductor") -> None:
    """Has the UNet and the VAE's decoder compiled on their first use, in place, once for every shape."""
    import torch._inductor.config as inductor

    settings: dict[str, Any] = {"backend": backend}
    if backend == "inductor" and hasattr(inductor, "deterministic"):
        # No timing decides between kernels: they could round otherwise in the next process.
        settings["options"] = {"deterministic": True}
    for network in (pipeline.unet, pipeline.vae.decoder):
        network.compile(dynamic=False, **settings)


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Compiled networks within: one more size is one more compilation, never an uncompiled run in silence.

    Raises GeneratorError when something cannot be compiled.
    """
    import torch._dynamo as dynamo

    with dynamo.config.patch(recompile_limit=_SHAPES, fail_on_recompile_limit_hit=True):
        try:
            yield
        except (dynamo.exc.TorchDynamoException, dynamo.exc.FailOnRecompileLimitHit) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise GeneratorError(
                f"the model cannot be compiled ({reason}); load it with compile='off'"
            ) from error


def needs_float32(pipeline: Any, dtype: torch.dtype) -> bool:
    """Whether the VAE overflows in `dtype`, by diffusers' rule: SDXL's does in float16 (force_upcast).

    Other families' configurations lack the key, which diffusers reads as True and does not follow.
    """
    is_xl = hasattr(pipeline, "text_encoder_2")
    return is_xl and dtype == torch.float16 and bool(pipeline.vae.config.get("force_upcast", False))
