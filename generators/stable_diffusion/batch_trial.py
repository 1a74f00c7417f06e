"""How many images a pass: found by trial."""

from __future__ import annotations

import logging
from collections.abc import Callable

from generators.errors import GeneratorError
from promptopt.base.machine import is_out_of_memory, release_memory

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
