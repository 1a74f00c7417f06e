"""How every network encodes: batches of one size, full float32, rows back on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.encoders.base import EncoderError
from promptopt.base.machine import is_out_of_memory, release_memory

logger = logging.getLogger(__name__)


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


def computed_on(device: torch.device, batch_size: int | None) -> str:
    """What rounds beside an encoder's own: kind of GPU, threads of a CPU, a batch that is not the usual one.

    Numbers are float32 everywhere. "" for one thread of a CPU with the usual batch (None).
    """
    if device.type == "cuda":
        parts = [f"gpu={torch.cuda.get_device_name(device)}", f"cuda={torch.version.cuda}"]
    else:
        parts = [f"threads={threads}"] if (threads := torch.get_num_threads()) > 1 else []
    return ";".join(parts + ([] if batch_size is None else [f"batch={batch_size}"]))


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
    """Features (n, dim), float32, of images made ready one by one and encoded `size` at a time.

    Where memory runs out, half as many are from there on.

    Raises:
        EncoderError: not even one image fits.
    """
    blocks: list[NDArray[np.float32]] = []
    start = 0
    while start < len(images):
        try:
            batch = torch.stack([prepare(image) for image in images[start : start + size]])
            with exact_inference(device):
                rows = forward(filled(batch, size).to(device))
            blocks.append(rows[: len(batch)].float().cpu().numpy())
            start += len(batch)
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # the exception is gone here, and with it the tensors that its frames held
        release_memory()
        if size == 1:
            raise EncoderError(
                "memory ran out with one image a pass; close other programs, or take a device with more"
            )
        size //= 2
        logger.warning("out of memory; from now on %d images are encoded at a time", size)
    return np.concatenate(blocks) if blocks else np.zeros((0, dim), dtype=np.float32)
