"""Pictures as training batches: decoded once where they fit into memory, and perturbed on the fly."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from promptopt.base.images import read_image
from promptopt.base.training.errors import TrainingError

MEMORY_LIMIT = 2 * 2**30
"""Bytes of decoded pixels kept in memory; above it pictures are decoded again for every batch."""


class Pictures:
    """The pictures of a data set as uint8 (3, height, width), by index."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        decode: Callable[[Image.Image], NDArray[np.uint8]],
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """``decode`` gives the uint8 (height, width, 3) array of an RGB picture."""
        self._paths = list(paths)
        self._decode = decode
        self._pixels: NDArray[np.uint8] | None = None
        if self._paths:
            first = self._read(0)
            if first.nbytes * len(self._paths) <= memory_limit:
                self._pixels = np.empty((len(self._paths), *first.shape), dtype=np.uint8)
                self._pixels[0] = first
                for index in range(1, len(self._paths)):
                    self._pixels[index] = self._read(index)

    def __len__(self) -> int:
        return len(self._paths)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Float (len(rows), 3, height, width) in [0, 1]."""
        if self._pixels is not None:
            pixels = self._pixels[np.asarray(rows, dtype=np.int64)]
        else:
            pixels = np.stack([self._read(int(row)) for row in rows])
        return torch.from_numpy(pixels).float() / 255

    def _read(self, index: int) -> NDArray[np.uint8]:
        image = read_image(self._paths[index], error=TrainingError)
        return np.ascontiguousarray(self._decode(image).transpose(2, 0, 1))


def augment(images: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Color jitter, soft focus, lost detail and noise, drawn for each picture; never a flip or a turn.

    Pictures out of a latent decoder are slightly soft and noisy: a network that has seen only clean ones
    judges that rather than what they show. ``images`` are float (n, 3, h, w) in [0, 1]; so is the result.
    """
    if strength == 0:
        return images
    n, channels, height, width = images.shape

    def column(low: float, high: float, *, each: int = 1) -> Tensor:
        values = rng.uniform(low, high, size=(n, each, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(images.device)

    contrast = 1 + strength * column(-0.15, 0.15)
    gains = 1 + strength * column(-0.06, 0.06, each=channels)
    brightness = strength * column(-0.08, 0.08)
    images = ((images - 0.5) * contrast + 0.5) * gains + brightness

    coarse = F.interpolate(F.avg_pool2d(images, 2, ceil_mode=True), size=(height, width), mode="bilinear")
    lost = strength * column(0, 0.8) * (column(0, 1) < 0.3)
    images = torch.lerp(images, coarse, lost.clamp(max=1))

    # Half of the pictures are blurred, with a sigma of up to 1.2 pixels at 64 x 64.
    sigma = strength * column(0.2, 1.2) * (column(0, 1) < 0.5) * (width / 64)
    images = gaussian_blur(images, sigma.reshape(n))

    noise = rng.standard_normal(images.shape, dtype=np.float32)
    amount = strength * column(0, 0.06) * (column(0, 1) < 0.6)
    return (images + amount * torch.from_numpy(noise).to(images.device)).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur every picture (n, c, h, w) with its own sigma (n,) in pixels; 0 leaves a picture as it is."""
    n, channels, height, width = images.shape
    radius = min(max(1, int(np.ceil(2.5 * float(sigma.max())))), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = images.reshape(1, n * channels, height, width)
    flat = F.pad(flat, (radius,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    return flat.reshape(images.shape)
