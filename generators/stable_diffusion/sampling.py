"""From noise to pixels: the one denoising loop of every model.

An image depends on its request alone: its noise comes from its own CPU generator in float32. The caller sees
to it that every call has the same number of rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from generators.request import ImageRequest
from generators.stable_diffusion.conditioning import Conditioning
from generators.stable_diffusion.schedulers import make_scheduler


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the loop, as a `Steer` sees it.

    Attributes:
        latents: what the UNet is given, (n, channels, height, width), of unit variance:
            sqrt(signal) x image + sqrt(1 - signal) x noise.
        signal: the share of the image in it, 0 to 1 (the cumulative alpha of the noise schedule).
        predict: latents to the model's prediction with guidance, of the kind that `prediction_type` names.
        prediction_type: "epsilon", "v_prediction" or "sample".
        decode: latents of images to pixels, (n, 3, height, width), -1 to 1.
        requests: one a row, repetitions that fill up the batch included.
    """

    latents: torch.Tensor
    signal: float
    predict: Callable[[torch.Tensor], torch.Tensor]
    prediction_type: str
    decode: Callable[[torch.Tensor], torch.Tensor]
    requests: Sequence[ImageRequest]


Steer = Callable[[Step], torch.Tensor]
"""Takes over a step: returns the prediction to go on with. A row must depend on its own row alone."""


def denoise(
    pipeline: Any,
    requests: Sequence[ImageRequest],
    conditioning: Conditioning,
    *,
    device: torch.device,
    dtype: torch.dtype,
    steer: Steer | None = None,
) -> torch.Tensor:
    """Latents (n, channels, height, width) of requests that share steps, guidance, scheduler and size.

    `conditioning` has a row a request; with guidance above 1, those of the negative prompts come first.
    """
    first, unet = requests[0], pipeline.unet
    scheduler = make_scheduler(first.scheduler, pipeline.scheduler)
    scheduler.set_timesteps(first.steps, device=device)
    sources = [torch.Generator().manual_seed(request.seed) for request in requests]
    factor = pipeline.vae_scale_factor
    shape = (1, unet.config.in_channels, first.height // factor, first.width // factor)
    noise = [torch.randn(shape, generator=source, dtype=torch.float32) for source in sources]
    latents = torch.cat(noise).to(device, dtype) * scheduler.init_noise_sigma
    arguments = conditioning.arguments(width=first.width, height=first.height)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": sources} if takes_generator else {}
    for timestep in scheduler.timesteps:

        def predict(inputs: torch.Tensor, timestep: torch.Tensor = timestep) -> torch.Tensor:
            if first.guidance <= 1:
                return unet(inputs, timestep, **arguments, return_dict=False)[0]
            both = unet(torch.cat([inputs, inputs]), timestep, **arguments, return_dict=False)[0]
            without, toward = both.chunk(2)
            return without + first.guidance * (toward - without)

        inputs = scheduler.scale_model_input(latents, timestep)
        if steer is None:
            predicted = predict(inputs)
        else:
            predicted = steer(
                Step(
                    latents=inputs,
                    signal=_signal(scheduler, float(timestep)),
                    predict=predict,
                    prediction_type=scheduler.config.prediction_type,
                    decode=lambda images: decode(pipeline, images),
                    requests=requests,
                )
            )
        latents = scheduler.step(predicted, timestep, latents, **extra, return_dict=False)[0]
    return latents


def decode(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (n, 3, height, width), about -1 to 1, of latents as the UNet makes them."""
    vae = pipeline.vae
    latents = latents.to(vae.dtype)
    mean, deviation = (vae.config.get(f"latents_{name}") for name in ("mean", "std"))
    if mean is not None and deviation is not None:
        mean, deviation = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        latents = latents * deviation / vae.config.scaling_factor + mean
    else:
        latents = latents / vae.config.scaling_factor
    return vae.decode(latents, return_dict=False)[0]


def autoencode(pipeline: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (n, 3, height, width), -1 to 1, encoded to the mean of their latents and decoded."""
    vae = pipeline.vae
    mean = vae.encode(pixels.to(vae.dtype)).latent_dist.mean
    return vae.decode(mean, return_dict=False)[0]


def _signal(scheduler: Any, timestep: float) -> float:
    """The cumulative alpha at a timestep, interpolated where a sampler stops between two."""
    alphas = scheduler.alphas_cumprod
    below = min(max(int(timestep), 0), len(alphas) - 1)
    above = min(below + 1, len(alphas) - 1)
    share = min(max(timestep - below, 0.0), 1.0)
    return float(alphas[below]) * (1 - share) + float(alphas[above]) * share
