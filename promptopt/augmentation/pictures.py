"""What filters look at: features that came with an image, or are computed from its pixels once asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.features.elsewhere import open_encoders
from generators.errors import StoreError
from generators.png import with_texts, write_png
from promptopt.base.images import read_image

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.encoders.base import Encoder

Rows = NDArray[np.float32]
_THREADS = min(4, os.cpu_count() or 1)


class ExtremesEncoder:
    """The least and the largest value of each channel: all that tells a black image."""

    uri, fingerprint, dim = "extremes", "extremes 1", 6

    def encode_images(self, images: Sequence[Image.Image]) -> Rows:
        """Least values of red, green and blue, then largest ones, in levels of 255: shape (n, 6), float32."""
        found = [np.reshape(image.convert("RGB").getextrema(), (3, 2)).T.ravel() for image in images]
        return np.asarray(found, dtype=np.float32).reshape(len(images), self.dim)


EXTREMES, THUMBNAIL = ExtremesEncoder(), ThumbnailEncoder()
OPENER = f"{__name__}:open_looks"
"""`open_looks` as `MakerSpec.features` has it."""

open_looks = partial(open_encoders, known={one.uri: one for one in (EXTREMES, THUMBNAIL)})
"""`open_encoders` that knows what filters look at, beside all other encoders."""


class Picture:
    """An image that was drawn, as pixels or as the file that others made of it.

    Args:
        image: its pixels; or
        content: the file's bytes as a store has them, and its `name`.
        features: rows that came with it, by the encoder's address.
    """

    def __init__(
        self,
        image: Image.Image | None = None,
        *,
        content: bytes = b"",
        name: str = "",
        features: Mapping[str, Rows] | None = None,
    ) -> None:
        self._image, self._content, self._name = image, content, name
        self.features = dict(features or {})

    @cached_property
    def image(self) -> Image.Image:
        """The RGB image. Raises StoreError where the file holds none."""
        if self._image is not None:
            return self._image
        return read_image(self._name, error=StoreError, content=self._content)

    def png(self, texts: Mapping[str, str]) -> bytes:
        """The file of a set: the same bytes, whether the image came as pixels or as a file."""
        return with_texts(self._content, texts) or write_png(self.image, texts)


def decoded(pictures: Sequence[Picture]) -> list[Image.Image]:
    """RGB images, those that came as files decoded in threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda one: one.image, pictures))


def features_of(encoder: Encoder, pictures: Sequence[Picture], *, address: str = "") -> Rows:
    """Features (n, dim); computed, once for each picture, where they did not come with it.

    Args:
        address: under which they would have come; default: the encoder's own.
    """
    key = address or encoder.uri
    if missing := [one for one in pictures if key not in one.features]:
        if encoder in (EXTREMES, THUMBNAIL):
            with ThreadPoolExecutor(_THREADS) as pool:
                found = list(pool.map(lambda one: encoder.encode_images([one.image])[0], missing))
        else:
            found = list(encoder.encode_images(decoded(missing)))
        for one, row in zip(missing, found, strict=True):
            one.features[key] = row
    return np.array([one.features[key] for one in pictures], dtype=np.float32).reshape(-1, encoder.dim)
