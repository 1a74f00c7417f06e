"""The stage that learns to denoise latents under captions: what a batch is, and its loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from generators.training.captions import Captions
from generators.training.conditioning import CachedText, Conditioner, LearnedText
from generators.training.latents import LatentCache
from generators.training.lora import cast_frozen
from generators.training.noise import Noising
from generators.training.optimizer import method
from generators.training.parts import Parts
from generators.training.spec import SdTrainingSpec
from generators.training.validation import Validation
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.loop import Loop, LoopResult
from promptopt.base.training.order import DataOrder, seeded
from promptopt.base.training.progress import JsonLog, OnProgress


class Batches:
    """Which pictures a step sees and what each counts; the counts add up to 1, or 1 + ``prior_weight``.

    Of ``pictures``, the last ``prior`` are class images: half of each batch is theirs (DreamBooth's prior
    preservation). Each half is a mean of its own, so neither outweighs the other by number.
    """

    def __init__(
        self, pictures: int, *, batch_size: int, seed: int, prior: int = 0, prior_weight: float = 1.0
    ) -> None:
        self._own = pictures - prior
        half = batch_size // 2 if prior else 0
        if prior and batch_size % 2:
            raise TrainingError(
                f"training.batch_size {batch_size}: half of it are class images; take an even one"
            )
        self._order = DataOrder(self._own, batch_size=batch_size - half, seed=seed)
        self._prior = DataOrder(prior, batch_size=half, seed=seed + 1) if prior else None
        counts = [1 / (batch_size - half)] * (batch_size - half) + [prior_weight / max(1, half)] * half
        self.counts = torch.tensor(counts)

    def of(self, step: int) -> list[int]:
        """Indices of a step's pictures; ``counts`` says what each of them counts in the loss."""
        prior = [] if self._prior is None else [self._own + index for index in self._prior.batch(step)]
        return self._order.batch(step) + prior


@dataclass
class Denoising:
    """Trains UNet, and text encoder or adapters, on cached latents. ``keys`` are the pictures' sha256."""

    spec: SdTrainingSpec
    parts: Parts
    cache: LatentCache
    keys: Sequence[str]
    captions: Captions
    batches: Batches
    out: Path
    accelerator: Accelerator
    validation: Validation | None = None
    _conditioner: Conditioner = field(init=False)

    def run(self, on_progress: OnProgress | None = None) -> LoopResult:
        """Train; afterwards the parts hold the averaged weights, the best by validation if there was any."""
        training, parts, device = self.spec.training, self.parts, self.accelerator.device
        learns_text = training.train_text_encoder
        self._noising = Noising.from_scheduler(
            parts.scheduler,
            zero_terminal_snr=bool(parts.scheduler.config.get("rescale_betas_zero_snr", False)),
            min_snr_gamma=training.min_snr_gamma,
        )
        self._chances = self._noising.timestep_chances(
            portion=training.timestep_bias_portion, multiplier=training.timestep_bias_multiplier
        )
        if self.spec.lora is None:
            parts.unet.requires_grad_(True)
            parts.text_encoder.requires_grad_(learns_text)
        texts = self.captions.texts
        self._conditioner = (
            LearnedText(parts, texts, device=device)
            if learns_text
            else CachedText(parts, texts, device=device, size=self.spec.size)
        )
        self._place()
        modules, rates = {"unet": parts.unet}, {"unet": training.lr}
        if learns_text:
            modules["text_encoder"] = parts.text_encoder
            rates["text_encoder"] = training.text_encoder_lr or training.lr
        loop = Loop(
            stage="unet",
            modules=modules,
            loss=self._loss,
            method=method(training, stage="unet", rates=rates),
            checkpoints=self.out / "stages" / "unet" / "checkpoints",
            log=JsonLog(self.out / "log.jsonl"),
            place=self.accelerator,
            on_progress=on_progress,
            after_step=lambda step: self._validate(loop, step),
            tell=lambda step, values: self.accelerator.log(values, step=step),
        )
        result = loop.run()
        if self.validation is not None:
            self.validation.restore_best(loop.named)
        return result

    def _place(self) -> None:
        training, parts, device = self.spec.training, self.parts, self.accelerator.device
        self._layout = torch.channels_last if training.channels_last else torch.contiguous_format
        parts.unet.to(device)
        if self.spec.lora is not None and training.precision != "float32":
            # frozen weights need no float32, and autocast would cast them anew at every pass
            half = torch.bfloat16 if training.precision == "bf16" else torch.float16
            cast_frozen(parts.unet, half, norms=device.type == "cuda")
        parts.unet.to(memory_format=self._layout)
        if training.train_text_encoder:
            parts.text_encoder.to(device)
        if training.gradient_checkpointing:
            parts.unet.enable_gradient_checkpointing()
            if training.train_text_encoder:
                parts.text_encoder.gradient_checkpointing_enable()
        if training.compile:
            parts.unet.compile(dynamic=False)

    def _loss(self, step: int, rows: slice) -> torch.Tensor:
        training, device = self.spec.training, self.accelerator.device
        # everything random is drawn for the whole batch, so that it does not depend on how it is shared out
        chosen, generator = self.batches.of(step), seeded(training.seed, "unet", step)
        mirror = (torch.rand(len(chosen), generator=generator) < 0.5).tolist()
        if training.horizontal_flip == "none":
            mirror = [False] * len(chosen)
        texts = self.captions.draw(
            chosen, mirror=mirror, dropout=training.caption_dropout, generator=generator
        )
        mean, logvar = self.cache.get([self.keys[i] for i in chosen[rows]], mirror=mirror[rows])
        shape = (len(chosen), *mean.shape[1:])
        scale = float(self.parts.vae.config.scaling_factor)
        drawn = torch.randn(shape, generator=generator)[rows]
        clean = scale * (mean + drawn * torch.exp(0.5 * logvar))
        noise = torch.randn(shape, generator=generator)
        timesteps = torch.multinomial(self._chances, len(chosen), replacement=True, generator=generator)
        if training.noise_offset:
            shift = torch.randn((*shape[:2], 1, 1), generator=generator)
            noise = noise + training.noise_offset * shift
        noise, timesteps = noise[rows], timesteps[rows]
        noisy = (
            self._noising.noised(clean, noise, timesteps).to(device).contiguous(memory_format=self._layout)
        )
        target = self._noising.target(clean, noise, timesteps).to(device)
        with self.accelerator.autocast():
            told = self._conditioner(texts[rows])
            made = self.parts.unet(
                noisy,
                timesteps.to(device),
                told.context,
                added_cond_kwargs=None if told.added is None else dict(told.added),
                return_dict=False,
            )[0]
        error = F.mse_loss(made.float(), target, reduction="none").mean(dim=(1, 2, 3))
        weights = self.batches.counts[rows] * self._noising.weights(timesteps)
        return (error * weights.to(device)).sum()

    def _validate(self, loop: Loop, step: int) -> None:
        if self.validation is not None and self.validation.due(step, last=self.spec.training.steps):
            with loop.averaged() as weights, self.accelerator.autocast():
                self.validation.run(step, weights)
            self.accelerator.wait_for_everyone()
