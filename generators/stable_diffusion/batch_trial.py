"""How many images a pass: found by trial, and memory that runs out told from other faults."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import torch

from generators.errors import GeneratorError

logger = logging.getLogger(__name__)

LARGEST = 128
_WORTH = 1.1  # a doubling must bring a tenth more images a second, since a fuller batch is padded more often


def find_batch_size(images_per_second: Callable[[int], float], *, largest: int = LARGEST) -> int:
    """The smallest power of two up to `largest` beyond which doubling no longer pays, or does not fit.

    Args:
        images_per_second: runs a batch of that many images and returns its speed; may run out of memory.

    Raises:
        GeneratorError: not even one image fits.
    """
    best, speed = 0, 0.0
    size = 1
    while size <= largest:
        found = _or_out_of_memory(images_per_second, size)
        if found is None:
            break
        logger.info("batch size by trial: %d at a time make %.2f images a second", size, found)
        if found < speed * _WORTH:
            break
        best, speed = size, found
        size *= 2
    if best == 0:
        raise GeneratorError(no_room())
    return best


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator's or the CPU's allocator has run out."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def release_memory() -> None:
    """Gives the memory of dead tensors back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def no_room() -> str:
    """What to say when one image a pass is too many."""
    return (
        "out of memory with one image a pass; take a smaller width and height, dtype float16, "
        "or a device with more free memory"
    )


def _or_out_of_memory(images_per_second: Callable[[int], float], size: int) -> float | None:
    try:
        return images_per_second(size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    release_memory()  # after the exception is gone, and with it the tensors its frames held
    return None
