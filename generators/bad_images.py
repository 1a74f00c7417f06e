"""Images that came out unusable, and the error that says which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from generators.errors import GeneratorError
from generators.request import ImageRequest


@dataclass(frozen=True)
class BadImage:
    """An image that is none: `fault` is "not finite", "black" or "of one color".

    Example:
        >>> from generators import load
        >>> black = BadImage(load("embedded", device="cpu").request("a polyp", 7), "black")
        >>> black.fault, black.request.seed
        ('black', 7)
    """

    request: ImageRequest
    fault: str


class BadImageError(GeneratorError):
    """Images came out unusable. They are not handed out and not stored; every other image is.

    `images` are the bad ones, `made` is how many were made altogether, good and bad.
    """

    def __init__(self, images: Sequence[BadImage], *, made: int) -> None:
        self.images = tuple(images)
        self.made = made
        first = self.images[0]
        request = first.request
        faults = Counter(image.fault for image in self.images)
        counts = ", ".join(f"{count} {fault}" for fault, count in faults.items())
        remedy = (
            "try float32 or another scheduler"
            if first.fault == "not finite"
            else "a trained model hardly makes such an image: try float32, less guidance or other weights"
        )
        super().__init__(
            f"{len(self.images)} of {made} images are bad and dropped; the first has seed {request.seed}, "
            f"scheduler {request.scheduler!r}, {request.steps} steps and guidance {request.guidance} and is "
            f"{first.fault} in {request.dtype} ({counts}); {remedy} (prompt {request.prompt!r})"
        )

    @property
    def counts(self) -> dict[str, int]:
        """Number of bad images by fault."""
        return dict(Counter(image.fault for image in self.images))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_bad_image, (self.images, self.made)


def _rebuild_bad_image(images: Sequence[BadImage], made: int) -> BadImageError:
    return BadImageError(images, made=made)
