"""The forward process: noising, what the network should predict, and how much each timestep counts."""

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from promptopt.base.errors import ArgumentError


def snr_weights(snr: torch.Tensor, *, gamma: float, prediction_type: str) -> torch.Tensor:
    """Min-SNR weights of the loss (Hang et al. 2023, arXiv:2303.09556), of the shape of ``snr``.

    min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v-prediction. Where the signal-to-noise
    ratio is 0 the weight is 1, so that the last timestep is learned at all under zero terminal SNR (and 0/0
    is never computed).
    """
    divisor = snr if prediction_type == "epsilon" else snr + 1
    weights = snr.clamp(max=gamma) / divisor.clamp_min(1e-12)
    return torch.where(snr <= 0, torch.ones_like(snr), weights)


@dataclass(frozen=True)
class Noising:
    """``alphas_cumprod`` (T,): the share of signal power left at each timestep; the last may be exactly 0."""

    alphas_cumprod: torch.Tensor
    prediction_type: Literal["v_prediction", "epsilon"]
    min_snr_gamma: float | None = None

    @classmethod
    def from_scheduler(
        cls, scheduler: SchedulerMixin, *, zero_terminal_snr: bool, min_snr_gamma: float | None = None
    ) -> "Noising":
        """The process that a pipeline's scheduler undoes. Raises ValueError for one that is not supported."""
        config = scheduler.config
        kind = config.get("prediction_type", "epsilon")
        if kind not in ("v_prediction", "epsilon") or "num_train_timesteps" not in config:
            raise ArgumentError(
                f"{type(scheduler).__name__} with prediction_type {kind!r} is not supported; "
                "start from a checkpoint of the SD 1.x or 2.x family (epsilon or v_prediction)"
            )
        if zero_terminal_snr and kind == "epsilon":
            raise ArgumentError("zero_terminal_snr needs a checkpoint with prediction_type v_prediction")
        process = DDPMScheduler.from_config(config, rescale_betas_zero_snr=zero_terminal_snr)
        return cls(process.alphas_cumprod.float(), kind, min_snr_gamma)

    @property
    def timesteps(self) -> int:
        """The number of timesteps T."""
        return len(self.alphas_cumprod)

    def timestep_chances(self, *, portion: float = 1.0, multiplier: float = 1.0) -> torch.Tensor:
        """Relative chance (T,) of each timestep: 1, and ``multiplier`` for the noisiest ``portion``."""
        chances = torch.ones(self.timesteps)
        chances[self.timesteps - round(portion * self.timesteps) :] = multiplier
        return chances

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Latents at the given timesteps (n,): signal and noise mixed."""
        signal, spread = self._mix(timesteps, clean)
        return signal * clean + spread * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network should answer: the noise, or v = signal * noise - spread * clean."""
        if self.prediction_type == "epsilon":
            return noise
        signal, spread = self._mix(timesteps, clean)
        return signal * noise - spread * clean

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The loss's weight per sample (n,); ones without min-SNR."""
        kept = self.alphas_cumprod.to(timesteps.device)[timesteps]
        if self.min_snr_gamma is None:
            return torch.ones_like(kept)
        snr = kept / (1 - kept)
        return snr_weights(snr, gamma=self.min_snr_gamma, prediction_type=self.prediction_type)

    def _mix(self, timesteps: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = self.alphas_cumprod.to(like.device)[timesteps].reshape(-1, *[1] * (like.ndim - 1))
        return kept.sqrt(), (1 - kept).sqrt()
