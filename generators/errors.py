"""Errors that text-to-image generation raises on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generators.request import ImageRequest


class GeneratorError(ValueError):
    """A model folder, a request or a setting is wrong; the message names it and what would be right."""


class PromptTooLongError(GeneratorError):
    """A prompt has more tokens than the text encoder reads; the rest would be cut off in silence.

    `count` and `limit` both include the start and end tokens. `lost` is the end of the prompt that would not
    be read, where it is known (`generators.tokens.lost_words`).
    """

    def __init__(self, prompt: str, *, count: int, limit: int, lost: str = "") -> None:
        self.prompt = prompt
        self.count = count
        self.limit = limit
        self.lost = lost
        end = f" and would lose {lost!r}" if lost else ""
        super().__init__(
            f"the prompt has {count} tokens (start and end included), over the limit of {limit}{end}; "
            f"shorten it: {prompt!r}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_too_long, (self.prompt, self.count, self.limit, self.lost)


def _rebuild_too_long(prompt: str, count: int, limit: int, lost: str) -> PromptTooLongError:
    return PromptTooLongError(prompt, count=count, limit=limit, lost=lost)


@dataclass(frozen=True)
class BadImage:
    """An image that is none: `fault` is "not finite", "black" or "of one colour"."""

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
            else "a trained model hardly makes such a picture: try float32, less guidance or other weights"
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


class BatchHalvedError(GeneratorError):
    """Memory ran out, and the generator makes fewer images a pass from now on.

    Rounding depends on the batch size, so requests that state the old one cannot be met any more: make them
    anew with the generator's `request()`, as `ImageStore.fetch` does by itself.
    """

    def __init__(self, before: int, now: int) -> None:
        self.before = before
        self.now = now
        super().__init__(
            f"out of memory at {before} images a pass; from now on there are {now}: "
            "make the requests anew with the generator's request(), or fetch through an ImageStore"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return BatchHalvedError, (self.before, self.now)


class StoreError(RuntimeError):
    """The image store cannot be read or written (full disk, permissions, later damage)."""
