"""What the UNet is told about a picture: its caption through the text encoders, learned along or cached."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import CLIPTokenizer

from generators.training.parts import Parts
from generators.training.tokenizer import is_too_long
from promptopt.base.training.errors import TrainingError

logger = logging.getLogger(__name__)

_CACHE_BYTES = 4 * 2**30
_CHUNK = 32


@dataclass(frozen=True)
class Conditioning:
    """``context`` (n, tokens, width) for cross-attention; ``added``: SDXL's pooled text and size."""

    context: torch.Tensor
    added: Mapping[str, torch.Tensor] | None = None


class Conditioner(Protocol):
    """Captions by row to what the UNet takes."""

    def __call__(self, rows: Sequence[int]) -> Conditioning:
        """The conditioning of captions by row."""
        ...


class LearnedText:
    """The text encoder runs at every step, since it is trained."""

    def __init__(self, parts: Parts, texts: Sequence[str], *, device: torch.device) -> None:
        tokenizer = parts.tokenizer
        self._encoder, self._device = parts.text_encoder, device
        self._ids = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids

    def __call__(self, rows: Sequence[int]) -> Conditioning:
        return Conditioning(self._encoder(self._ids[list(rows)].to(self._device))[0])


class CachedText:
    """Every caption is encoded once, in float32, by diffusers' own pipeline; then the encoders may go.

    Raises TrainingError when the captions are so many that their embeddings do not fit into memory.
    """

    def __init__(self, parts: Parts, texts: Sequence[str], *, device: torch.device, size: int) -> None:
        self._device = device
        self._size = size if parts.text_encoder_2 is not None else None
        pipe = parts.pipeline()
        encoders = [encoder for encoder in (parts.text_encoder, parts.text_encoder_2) if encoder is not None]
        for encoder in encoders:
            encoder.to(device)
        context, pooled = [], []
        for start in range(0, len(texts), _CHUNK):
            made = _encode(pipe, list(texts[start : start + _CHUNK]), device)
            context.append(made[0].float().cpu())
            if self._size is not None:
                pooled.append(made[2].float().cpu())
            if start == 0 and (needed := context[0][0].nbytes * len(texts)) > _CACHE_BYTES:
                raise TrainingError(
                    f"the embeddings of {len(texts)} captions take {needed / 2**30:.0f} GiB, "
                    f"{_CACHE_BYTES // 2**30} are allowed; set training.train_text_encoder to true, "
                    "or give the images fewer distinct captions"
                )
        for encoder in encoders:
            encoder.to("cpu")
        self._context = torch.cat(context)
        self._pooled = torch.cat(pooled) if pooled else None

    def __call__(self, rows: Sequence[int]) -> Conditioning:
        context = self._context[list(rows)].to(self._device)
        if self._pooled is None or self._size is None:
            return Conditioning(context)
        # original size, crop, target size: pictures come as whole squares of this size
        ids = torch.tensor([[self._size, self._size, 0, 0, self._size, self._size]] * len(rows))
        pooled = self._pooled[list(rows)].to(self._device)
        return Conditioning(context, {"text_embeds": pooled, "time_ids": ids.to(pooled)})


@torch.no_grad()
def _encode(pipe: Any, texts: list[str], device: torch.device) -> tuple[torch.Tensor, ...]:
    made: tuple[torch.Tensor, ...] = pipe.encode_prompt(
        texts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return made


def check_lengths(
    tokenizer: CLIPTokenizer, texts: Sequence[str], *, long_captions: str, say: bool = False
) -> int:
    """Count captions that the text encoder cannot see whole, in a warning if asked to `say` so.

    Raises TrainingError unless they may be cut.
    """
    long = [text for text in dict.fromkeys(texts) if is_too_long(tokenizer, text)]
    if long and long_captions == "error":
        kept = tokenizer.decode(
            tokenizer(long[0], truncation=True, max_length=tokenizer.model_max_length).input_ids,
            skip_special_tokens=True,
        )
        raise TrainingError(
            f"{len(long)} captions have more than {tokenizer.model_max_length} tokens, "
            f"the first: {long[0]!r} (of it {kept!r} would be seen); "
            "shorten them, or set training.long_captions to cut"
        )
    if long and say:
        logger.warning(
            "%d captions have more than %d tokens; what is beyond is not seen. The first: %r",
            *(len(long), tokenizer.model_max_length, long[0]),
        )
    return len(long)
