"""What a UNet is told about an image: the one place where Stable Diffusion and SDXL differ.

Stable Diffusion's UNet reads the token embeddings of one text encoder. SDXL's reads those of two, joined, and
besides a pooled embedding and the picture's size (its `added_cond_kwargs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Rows of text conditioning.

    Attributes:
        embeddings: (n, tokens, width).
        pooled: (n, width of the second encoder's projection) for SDXL; None for Stable Diffusion.
    """

    embeddings: torch.Tensor
    pooled: torch.Tensor | None = None

    @classmethod
    def joined(cls, rows: Sequence[Conditioning]) -> Conditioning:
        """All rows below one another."""
        pooled = [row.pooled for row in rows if row.pooled is not None]
        return cls(
            embeddings=torch.cat([row.embeddings for row in rows]),
            pooled=torch.cat(pooled) if pooled else None,
        )

    def zeroed(self) -> Conditioning:
        """Zeros of the same shapes."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return Conditioning(embeddings=torch.zeros_like(self.embeddings), pooled=pooled)

    def arguments(self, *, width: int, height: int) -> dict[str, Any]:
        """Keyword arguments of the UNet for pictures of width x height pixels.

        SDXL is told that the picture was of this size from the start and is not cropped, as diffusers does.
        """
        if self.pooled is None:
            return {"encoder_hidden_states": self.embeddings}
        sizes = (height, width, 0, 0, height, width)  # original size, top left corner of the crop, target
        time_ids = torch.tensor([sizes], dtype=self.pooled.dtype, device=self.pooled.device)
        return {
            "encoder_hidden_states": self.embeddings,
            "added_cond_kwargs": {
                "text_embeds": self.pooled,
                "time_ids": time_ids.repeat(len(self.pooled), 1),
            },
        }


class Tokens:
    """Counts a prompt's tokens with one tokenizer or two.

    Attributes:
        limit: the longest prompt, start and end tokens included.
    """

    def __init__(self, tokenizers: Sequence[Any], positions: Sequence[int]) -> None:
        self._tokenizers = tokenizers
        self.limit = min(*(int(one.model_max_length) for one in tokenizers), *(int(n) for n in positions))

    def count(self, prompt: str) -> int:
        """Tokens of the prompt, start and end included; the larger count where there are two tokenizers."""
        return max(len(t(prompt, truncation=False, verbose=False).input_ids) for t in self._tokenizers)


class PromptReader:
    """Makes a prompt's Conditioning with a pipeline's tokenizers (`tokens` counts by them) and encoders."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self._pipeline = pipeline
        self._device = device
        self._is_xl = hasattr(pipeline, "text_encoder_2")
        names = ("", "_2") if self._is_xl else ("",)
        tokenizers = [getattr(pipeline, f"tokenizer{name}") for name in names]
        encoders = [getattr(pipeline, f"text_encoder{name}") for name in names]
        self.tokens = Tokens(tokenizers, [encoder.config.max_position_embeddings for encoder in encoders])
        for tokenizer in tokenizers:
            tokenizer.model_max_length = self.tokens.limit  # encode_prompt pads up to it

    @torch.no_grad()
    def read(self, prompt: str, *, negative: bool = False) -> Conditioning:
        """One row: each prompt by itself, so that no prompt depends on its batch mates.

        An empty negative prompt means none: where the model's configuration has it so
        (force_zeros_for_empty_prompt of SDXL), it is all zeros.
        """
        if not self._is_xl:
            return Conditioning(embeddings=self._pipeline.encode_prompt(prompt, self._device, 1, False)[0])
        embeddings, _, pooled, _ = self._pipeline.encode_prompt(
            prompt, device=self._device, do_classifier_free_guidance=False
        )
        row = Conditioning(embeddings=embeddings, pooled=pooled)
        empty = negative and not prompt and self._pipeline.config.force_zeros_for_empty_prompt
        return row.zeroed() if empty else row
