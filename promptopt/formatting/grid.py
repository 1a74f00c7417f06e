"""Several images as one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.errors import ArgumentError
from promptopt.base.files import write_bytes

if TYPE_CHECKING:
    from PIL import Image

_GAP = 6  # pixels between pictures


def image_grid(
    images: Sequence[Image.Image], *, tile: int = 192, columns: int | None = None, background: str = "white"
) -> Image.Image:
    """The images in rows, as near to a square as they go, or in `columns`.

    Each keeps its shape and fills a tile of `tile` x `tile` pixels; all are scaled in the same way (Lanczos).

    Raises:
        ValueError: no image, or a tile or number of columns below 1.
    """
    from PIL import Image

    if not images or tile < 1 or (columns is not None and columns < 1):
        raise ArgumentError(f"{len(images)} images, tile {tile}, columns {columns}; each must be at least 1")
    across = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    down = math.ceil(len(images) / across)
    step = tile + _GAP
    grid = Image.new("RGB", (across * step - _GAP, down * step - _GAP), background)
    for index, image in enumerate(images):
        scale = tile / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        shown = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        left, top = index % across * step, index // across * step
        grid.paste(shown, (left + (tile - width) // 2, top + (tile - height) // 2))
    return grid


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG that holds pixels and nothing else."""
    from PIL import Image

    bare = Image.new(image.mode, image.size)
    bare.paste(image)
    stream = io.BytesIO()
    bare.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def save_png(image: Image.Image, path: Path) -> Path:
    """Write `png_bytes`; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bytes(path, png_bytes(image))
