"""Pictures inside the page, as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from promptopt.base.images import read_image

if TYPE_CHECKING:
    from generators.store import StoredImage

THUMBNAIL = 160  # longer side where hundreds are shown
PIXELS = 256  # longer side of a shown picture; more would only make the file larger
SMALL = 96  # up to this side a picture is shown pixel by pixel


def embed_all(images: Sequence[StoredImage], count: int) -> list[str]:
    """The first images."""
    return [embed(image.load()) for image in images[:count]]


def embed_file(path: Path) -> str:
    """A real picture."""
    return embed(read_image(path))


def embed(image: Image.Image) -> str:
    """Small pictures without loss, others as JPEG."""
    small = max(image.size) <= SMALL
    image.thumbnail((PIXELS, PIXELS))
    stream = io.BytesIO()
    if small:
        image.save(stream, format="PNG", optimize=True)
    else:
        image.convert("RGB").save(stream, format="JPEG", quality=85, optimize=True)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def thumbnail(image: Image.Image) -> str:
    """A picture to look over among hundreds: WebP, small ones at their own size."""
    image = image.convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=85, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
