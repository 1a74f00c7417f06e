"""Pictures as training batches: square, of one size, float32 in -1..1."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from promptopt.base.images import READER, read_image
from promptopt.base.training.errors import TrainingDataError

_IN_MEMORY = 2 * 2**30


def read_square(path: Path, size: int) -> np.ndarray:
    """The picture's center square, resampled to ``size``: uint8 (size, size, 3). Raises TrainingDataError."""
    picture = read_image(path, error=TrainingDataError)
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture)


@dataclass(frozen=True)
class Pictures:
    """Picture files seen as squares of ``size`` pixels; kept in memory when they fit into 2 GiB."""

    files: tuple[Path, ...]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The sha256 of the reader's version and each file's bytes: what its pixels depend on."""
        reader = f"reader {READER}\n".encode()
        return tuple(hashlib.sha256(reader + path.read_bytes()).hexdigest() for path in self.files)

    @cached_property
    def _memory(self) -> np.ndarray | None:
        if len(self) * self.size**2 * 3 > _IN_MEMORY:
            return None
        return np.stack([read_square(path, self.size) for path in self.files])

    def batch(self, indices: Sequence[int], *, mirror: bool = False) -> torch.Tensor:
        """Pictures by index: float32 (n, 3, size, size) in -1..1, mirrored left to right when asked."""
        if self._memory is None:
            pixels = np.stack([read_square(self.files[i], self.size) for i in indices])
        else:
            pixels = self._memory[list(indices)]
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        return batch.flip(3).contiguous() if mirror else batch.contiguous()
