"""The autoencoder: image-only training, its latent scale, and its error on pictures it has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL

from generators.training.images import Pictures
from generators.training.optimizer import method
from generators.training.spec import VaeSpec, VaeTrainingSpec
from promptopt.base.training.loop import Loop, LoopResult
from promptopt.base.training.order import DataOrder, seeded
from promptopt.base.training.progress import JsonLog, OnProgress

_MEASURED = 1024
_CHUNK = 32
_FIRST_LOGVAR = -6.0


@dataclass(frozen=True)
class VaeReport:
    """What came out of VAE training; ``psnr`` in dB over held-out pictures, None without any."""

    loop: LoopResult
    scaling_factor: float
    psnr: float | None


def build_vae(spec: VaeSpec, *, size: int, seed: int = 0) -> AutoencoderKL:
    """An untrained autoencoder; the same seed gives the same weights."""
    levels = len(spec.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=spec.latent_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=spec.channels,
            layers_per_block=spec.layers_per_block,
            norm_num_groups=spec.norm_groups,
            sample_size=size,
        )
    # At first the posterior is nearly sharp: noise of variance 1 would drown what varies little, such as hue.
    with torch.no_grad():
        vae.quant_conv.weight[spec.latent_channels :].zero_()
        vae.quant_conv.bias[spec.latent_channels :].fill_(_FIRST_LOGVAR)
    return vae


def edge_loss(made: torch.Tensor, wanted: torch.Tensor, *, scales: int = 3) -> torch.Tensor:
    """Mean absolute difference of the horizontal and vertical pixel differences, at 1, 1/2, 1/4 of the size.

    An L1 loss alone is content with blur; this one punishes an edge that is too soft. Inputs (n, c, h, w).
    """
    total = made.new_zeros(())
    error = made - wanted
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        if min(error.shape[-2:]) < 2:
            break
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total


# Lightness, red against green, yellow against blue, in weights of R, G, B. Tissue hardly varies in the last
# two, so a plain loss lets a small VAE paint every polyp flesh-colored, while captions name colors.
_OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (2.0, -2.0, 0.0), (2.0, 2.0, -4.0))


def color_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean absolute plus mean square error of lightness and both opponent hues at 1/4 of the size.

    Hues are weighted up; the square is for small things of a rare hue. Inputs (n, 3, h, w).
    """
    axes = torch.tensor(_OPPONENT, dtype=made.dtype, device=made.device)[:, :, None, None]
    error = F.conv2d(F.avg_pool2d(made - wanted, 4, ceil_mode=True), axes)
    return error.abs().mean() + error.square().mean()


@torch.no_grad()
def whiten_colors(vae: AutoencoderKL, pictures: Pictures, *, seed: int) -> None:
    """Turn the first convolution of a new VAE so that lightness and both hues enter with equal variance.

    A deep network learns a direction of its input the later, the less the input varies in it, and tissue
    varies far less in hue than in lightness. This changes where training starts, not what the network is.
    """
    chosen = torch.randperm(len(pictures), generator=seeded(seed, "colors", 0))[:_MEASURED].tolist()
    pixels = pictures.batch(chosen).permute(0, 2, 3, 1).reshape(-1, 3).double()
    variances, axes = torch.linalg.eigh(torch.cov(pixels.T))
    gains = (variances[-1] / variances.clamp_min(1e-4 * variances[-1])).sqrt()
    turn = (gains[:, None] * axes.T).to(vae.encoder.conv_in.weight)
    vae.encoder.conv_in.weight.copy_(torch.einsum("ocij,ck->okij", vae.encoder.conv_in.weight, turn))


def train_vae(
    vae: AutoencoderKL,
    pictures: Pictures,
    *,
    spec: VaeTrainingSpec,
    held_out: Pictures | None,
    work: Path,
    place: Accelerator,
    keep_latents: bool = False,
    on_progress: OnProgress | None = None,
) -> VaeReport:
    """Train ``vae`` in place on pictures alone; goes on from the checkpoints under ``work``.

    At the end latents are given zero mean and unit variance, channel by channel, unless ``keep_latents`` (as
    is right for the VAE of a checkpoint, whose UNet must go on understanding them).
    """
    vae.requires_grad_(True)
    if spec.parts == "decoder":
        vae.encoder.requires_grad_(False)
        if vae.quant_conv is not None:
            vae.quant_conv.requires_grad_(False)
    torch.nn.Module.to(vae, device=place.device, dtype=torch.float32)
    if spec.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    if spec.channels_last:
        vae.to(memory_format=torch.channels_last)
    if spec.compile:
        vae.encoder.compile(dynamic=False)
        vae.decoder.compile(dynamic=False)
    order = DataOrder(len(pictures), batch_size=spec.batch_size, seed=spec.seed)
    learns_encoder = spec.parts == "all"

    def loss(step: int, rows: slice) -> torch.Tensor:
        chosen = order.batch(step)
        images = pictures.batch(chosen[rows])
        if spec.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        images = images.to(place.device)
        with place.autocast():
            with torch.set_grad_enabled(learns_encoder):
                posterior = vae.encode(images).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            # for the whole batch, so that it does not depend on how the batch is shared out
            shape = (len(chosen), *mean.shape[1:])
            noise = torch.randn(shape, generator=seeded(spec.seed, "vae", step))[rows].to(place.device)
            made = vae.decode(mean + noise * torch.exp(0.5 * logvar)).sample
        made = made.float()
        total = spec.l1 * F.l1_loss(made, images) + spec.mse * F.mse_loss(made, images)
        total = total + spec.edges * edge_loss(made, images) + spec.color * color_loss(made, images)
        if learns_encoder:
            total = total + spec.kl * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return total * (len(images) / len(chosen))

    result = Loop(
        stage="vae",
        modules={"vae": vae},
        loss=loss,
        method=method(spec, stage="vae", rates={"vae": spec.lr}),
        checkpoints=work / "checkpoints",
        log=JsonLog(work / "log.jsonl"),
        place=place,
        on_progress=on_progress,
    ).run()
    if not keep_latents and learns_encoder:
        chosen = torch.randperm(len(pictures), generator=seeded(spec.seed, "scale", 0))[:_MEASURED].tolist()
        normalize_latents(vae, pictures, chosen)
        vae.register_to_config(scaling_factor=measure_scale(vae, pictures, chosen))
    psnr = reconstruction_psnr(vae, held_out) if held_out is not None and len(held_out) else None
    return VaeReport(loop=result, scaling_factor=float(vae.config.scaling_factor), psnr=psnr)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of latents of images (n, 3, s, s): float32 on the CPU, (n, c, s/f, s/f)."""
    weight = next(vae.parameters())
    posterior = vae.encode(images.to(device=weight.device, dtype=weight.dtype)).latent_dist
    return posterior.mean.float().cpu().contiguous(), posterior.logvar.float().cpu().contiguous()


@torch.no_grad()
def normalize_latents(vae: AutoencoderKL, pictures: Pictures, indices: Sequence[int]) -> None:
    """Give every latent channel zero mean and unit variance over pictures, without changing a reconstruction.

    The affine map is folded into the 1x1 convolutions on both sides of the latents: diffusion learns channels
    of like size best, and a pipeline's one scaling_factor makes up neither for offsets nor for unlike sizes.
    """
    if vae.quant_conv is None or vae.post_quant_conv is None:
        return
    parts = [
        encode(vae, pictures.batch(indices[start : start + _CHUNK]))
        for start in range(0, len(indices), _CHUNK)
    ]
    means = torch.cat([mean for mean, _ in parts]).double()
    noise = torch.cat([logvar for _, logvar in parts]).double().exp().mean(dim=(0, 2, 3))
    offset = means.mean(dim=(0, 2, 3))
    spread = (means.var(dim=(0, 2, 3), correction=0) + noise).clamp_min(1e-12).sqrt()
    before, after = vae.quant_conv, vae.post_quant_conv
    weight, bias = before.weight, before.bias
    offset, spread = offset.to(weight), spread.to(weight)
    channels = len(offset)
    after.bias.add_(after.weight[:, :, 0, 0] @ offset)
    after.weight.mul_(spread[None, :, None, None])
    weight[:channels].div_(spread[:, None, None, None])
    bias[:channels].sub_(offset).div_(spread)
    bias[channels:].sub_(2 * spread.log())


def measure_scale(vae: AutoencoderKL, pictures: Pictures, indices: Sequence[int]) -> float:
    """One over the standard deviation of latents, drawn with their posterior's variance."""
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(indices), _CHUNK):
        mean, logvar = encode(vae, pictures.batch(indices[start : start + _CHUNK]))
        count += mean.numel()
        total += float(mean.double().sum())
        squares += float((mean.double().square() + logvar.double().exp()).sum())
    variance = squares / count - (total / count) ** 2
    return 1 / math.sqrt(max(variance, 1e-12))


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, pictures: Pictures) -> float:
    """Mean over pictures of the peak signal-to-noise ratio of decode(encode(picture)), in dB."""
    weight = next(vae.parameters())
    ratios: list[float] = []
    for start in range(0, len(pictures), _CHUNK):
        images = pictures.batch(range(start, min(start + _CHUNK, len(pictures))))
        mean, _ = encode(vae, images)
        made = vae.decode(mean.to(weight.device, weight.dtype)).sample.float().cpu().clamp(-1, 1)
        # the range is 2 (from -1 to 1), so the peak's square is 4
        error = (made - images).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
        ratios.extend((10 * torch.log10(4 / error)).tolist())
    return sum(ratios) / len(ratios)
