"""The drawing surface: a color image over [-1, 1]^2 with soft masks, noise and light."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]


@lru_cache(maxsize=4)
def grid(pixels: int) -> tuple[Array, Array]:
    """Pixel centers (x to the right, y downwards) in [-1, 1]; both of shape (pixels, pixels)."""
    axis = ((np.arange(pixels, dtype=np.float32) + 0.5) / pixels) * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def smoothstep(low: float, high: float, value: Array) -> Array:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Canvas:
    """RGB in [0, 1], float32, (pixels, pixels, 3), with the random generator of the scene."""

    def __init__(self, pixels: int, rng: np.random.Generator) -> None:
        self.pixels = pixels
        self.rng = rng
        self.x, self.y = grid(pixels)
        self.rgb: Array = np.zeros((pixels, pixels, 3), np.float32)
        # A soft edge some three pixels wide looks optical rather than cut out.
        self.edge = 3.0 / pixels

    def noise(self, cells: int) -> Array:
        """Smooth noise of about unit variance with ``cells`` features across the image."""
        small = self.rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
        margin = self.pixels // cells + 1
        big = Image.fromarray(small).resize((self.pixels + 2 * margin,) * 2, Image.Resampling.BICUBIC)
        return np.asarray(big, np.float32)[margin : margin + self.pixels, margin : margin + self.pixels]

    def polar(self, x: float, y: float) -> tuple[Array, Array]:
        dx, dy = self.x - x, self.y - y
        return np.hypot(dx, dy), np.arctan2(dy, dx)

    def local(self, x: float, y: float, angle: float) -> tuple[Array, Array]:
        """Coordinates with origin at (x, y), first axis along ``angle``."""
        dx, dy = self.x - x, self.y - y
        c, s = float(np.cos(angle)), float(np.sin(angle))
        return dx * c + dy * s, -dx * s + dy * c

    def inside(self, signed_distance: Array, *, soft: float = 1.0) -> Array:
        """Coverage in [0, 1] of the region where the signed distance is negative."""
        return smoothstep(self.edge * soft, -self.edge * soft, signed_distance)

    def paint(self, mask: Array, color: Any) -> None:
        """Blend a color (3,) or an image (h, w, 3) over the canvas."""
        self.rgb += mask[..., None] * (np.asarray(color, np.float32) - self.rgb)

    def shade(self, factor: Array | float) -> None:
        self.rgb = (self.rgb * np.atleast_2d(factor)[..., None]).astype(np.float32)

    def glow(self, amount: Array, color: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        """A highlight: moves toward ``color`` by ``amount`` in [0, 1]."""
        self.paint(np.clip(amount, 0, 1), color)


def segment_distance(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float]
) -> tuple[Array, Array]:
    """Distance to a line segment, and the position along it in [0, 1]."""
    (ax, ay), (bx, by) = start, end
    px, py = canvas.x - ax, canvas.y - ay
    dx, dy = bx - ax, by - ay
    t = np.clip((px * dx + py * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.hypot(px - t * dx, py - t * dy), t
