"""A generator without a model: colors derived from the request, and a record of what was asked for."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from PIL import Image

from generators import ImageRequest


class FakeGenerator:
    """Makes noise from the request's key, one image every `delay` seconds; `made` lists what it generated."""

    uri = "fake"
    fingerprint = "0" * 64
    max_tokens = 77

    def __init__(self, *, delay: float = 0.0) -> None:
        self.delay = delay
        self.made: list[ImageRequest] = []

    def request(
        self,
        prompt: str,
        seed: int,
        *,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> ImageRequest:
        return ImageRequest(
            generator=self.fingerprint,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps or 2,
            guidance=1.0 if guidance is None else guidance,
            scheduler=scheduler or "ddim",
            width=width or 8,
            height=height or 8,
            dtype="float32",
            device="cpu",
            versions="fake=1",
        )

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            time.sleep(self.delay)
            self.made.append(request)
            yield fake_image(request)

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split()) + 2


def fake_image(request: ImageRequest) -> Image.Image:
    """Pixels determined by the request alone."""
    pixels = hashlib.shake_256(request.key.encode()).digest(3 * request.width * request.height)
    return Image.frombytes("RGB", (request.width, request.height), pixels)
