"""Whether the CPU takes numbers too small for float32's normal range for zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals(*, flushed: bool) -> Iterator[None]:
    """Flush them to zero within, or keep them; as it was before on leaving.

    In Adam's moments they cost a CPU up to a third of its speed. Images are made with them kept, whoever
    makes them, so that nothing of the training that asks for them shows in their bytes.

    Example:
        >>> import torch
        >>> with denormals(flushed=True):
        ...     float(torch.tensor(1e-40) * 1)
        0.0
    """
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(flushed)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
