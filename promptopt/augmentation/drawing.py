"""Images of requests, bad ones said to be bad; nothing is stored."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from generators.bad_images import BadImageError
from generators.fetching import make_missing
from generators.store import StoredImage

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator
    from generators.request import ImageRequest


def draw(
    generator: Generator, requests: Sequence[ImageRequest]
) -> list[tuple[ImageRequest, Image.Image | None]]:
    """One image for each request, in their order, or None where the generator gave a black or NaN one.

    Where memory runs out on the way, the batch is halved and an image comes with the request it was made by.
    All images are held in memory.

    Raises:
        GeneratorError: as the generator does.
    """
    made: dict[ImageRequest, Image.Image] = {}
    lock = threading.Lock()
    found: dict[ImageRequest, ImageRequest] = {}
    bad: set[ImageRequest] = set()

    def put(request: ImageRequest, image: Image.Image) -> StoredImage:
        with lock:
            made[request] = image
        return StoredImage(request=request, path=Path(), sha256="")

    while left := [request for request in requests if request not in found and request not in bad]:
        try:
            for one in make_missing(generator, left, get=lambda _: None, put=put):
                found[one.asked] = one.image.request
        except BadImageError as error:
            refused = {_identity(image.request) for image in error.images}
            dropped = {request for request in left if _identity(request) in refused}
            if not dropped:
                raise
            bad |= dropped - set(found)
    return [(found.get(r, r), made[found[r]] if r in found else None) for r in requests]


def _identity(request: ImageRequest) -> tuple[str, str, int]:
    """What a smaller batch leaves as it is."""
    return request.prompt, request.negative_prompt, request.seed
