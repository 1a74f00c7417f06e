"""How every network encodes: batches of one size, full float32, rows back on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image


@contextmanager
def exact_inference(device: torch.device) -> Iterator[None]:
    """No gradients, and no TF32: on by default on recent cards, it keeps 10 bits of mantissa."""
    exact = (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        if device.type == "cuda"
        else nullcontext()
    )
    with torch.inference_mode(), exact:
        yield


def filled(batch: torch.Tensor, size: int) -> torch.Tensor:
    """The batch with its first row repeated up to `size`: a row must not depend on how many stand by it."""
    missing = size - len(batch)
    return torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])]) if missing > 0 else batch


def encode_in_batches(
    images: Sequence[Image.Image],
    *,
    size: int,
    device: torch.device,
    prepare: Callable[[Image.Image], torch.Tensor],
    forward: Callable[[torch.Tensor], torch.Tensor],
    dim: int,
) -> NDArray[np.float32]:
    """Features (n, dim), float32, of images made ready one by one and encoded `size` at a time."""
    blocks = []
    for start in range(0, len(images), size):
        batch = torch.stack([prepare(image) for image in images[start : start + size]])
        with exact_inference(device):
            rows = forward(filled(batch, size).to(device))
        blocks.append(rows[: len(batch)].float().cpu().numpy())
    return np.concatenate(blocks) if blocks else np.zeros((0, dim), dtype=np.float32)
