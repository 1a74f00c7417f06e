"""Images as 8 x 8 thumbnails: the space in which copies are looked for, no network and no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from promptopt.base.errors import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

_VERSION = "1"


class ThumbnailEncoder:
    """Colors on a coarse grid, their mean taken off, so that a cosine is a correlation of two pictures.

    It knows nothing of what is shown: two different polyps in the same place are near, and a copy that is
    turned or cropped is far unless `copy_views` brings it back. Noise, blur and JPEG hardly touch it.

    Args:
        side: of the grid; features are ``3 * side**2 + 1`` numbers. The last is 1, so that a picture of one
            color has a direction too.
    """

    def __init__(self, side: int = 8) -> None:
        if side < 2:
            raise ArgumentError(f"side is {side}; expected 2 or more")
        self.side = side

    @property
    def uri(self) -> str:
        return "thumbnail" if self.side == 8 else f"thumbnail:{self.side}"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"thumbnail {_VERSION} {self.side}".encode()).hexdigest()

    @property
    def dim(self) -> int:
        return 3 * self.side**2 + 1

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features of the images, shape (n, dim), float32, in units of gray levels."""
        from PIL import Image

        rows = np.ones((len(images), self.dim), dtype=np.float32)
        for row, image in zip(rows, images, strict=True):
            small = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BOX)
            pixels = np.asarray(small, dtype=np.float32).ravel()
            row[:-1] = pixels - pixels.mean()
        return rows


class ThumbnailViewsEncoder:
    """Thumbnails of an image and of nine crops of it for each share, in one row that a store can keep.

    `unfold` gives the views that `copy_views` would, mirror images included, as `memorization` takes them for
    training and held-out images.
    """

    def __init__(self, *, crops: Sequence[float] = (0.9, 0.8)) -> None:
        self.crops = tuple(crops)
        self._small = ThumbnailEncoder()
        self._views = 1 + 9 * len(self.crops)

    @property
    def uri(self) -> str:
        return "thumbnail-views"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"views {self.crops} {self._small.fingerprint}".encode()).hexdigest()

    @property
    def dim(self) -> int:
        return self._views * self._small.dim

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Thumbnails of the views that are not mirrored, one after the other: shape (n, dim), float32."""
        rows = np.empty((len(images), self._views, self._small.dim), dtype=np.float32)
        for row, image in zip(rows, images, strict=True):
            views = copy_views(image.convert("RGB"), crops=self.crops)
            row[:] = self._small.encode_images(views[: self._views])
        return rows.reshape(len(images), self.dim)

    def unfold(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows of `encode_images` as (views, n, features), the mirror images after the others."""
        side, n = self._small.side, len(rows)
        views = rows.reshape(n, self._views, self._small.dim).transpose(1, 0, 2)
        mirrored = views.copy()
        pixels = views[..., :-1].reshape(self._views, n, side, side, 3)
        mirrored[..., :-1] = pixels[:, :, :, ::-1].reshape(self._views, n, self._small.dim - 1)
        return np.concatenate([views, mirrored])


def copy_views(image: Image.Image, *, crops: Sequence[float] = (0.9, 0.8)) -> list[Image.Image]:
    """The image, nine crops of it for each share of its sides, and the mirror images of all of them.

    With the default shares 38 pictures, the image as it is first: what `memorization` compares a generated
    image with, to find a copy that is cropped, mirrored or both.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    from PIL import ImageOps

    width, height = image.size
    views = [image]
    for share in crops:
        if not 0 < share < 1:
            raise ArgumentError(f"crops has {share!r}; expected shares of a side between 0 and 1")
        w, h = max(1, round(width * share)), max(1, round(height * share))
        for x in (0, (width - w) // 2, width - w):
            for y in (0, (height - h) // 2, height - h):
                views.append(image.crop((x, y, x + w, y + h)))
    return [*views, *(ImageOps.mirror(view) for view in views)]
