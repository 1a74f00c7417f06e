"""A generator, an encoder, a metric and a sampler that pass their suites, to be broken one way at a time."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from evaluation import Estimate
from generators import GeneratorError, ImageRequest, PromptTooLongError
from promptopt.testing.samplers import Measured, Slots


class SoundGenerator:
    """Pixels are a hash of the request."""

    uri = "sound"
    max_tokens = 12

    def __init__(self, weights: str = "1") -> None:
        self.fingerprint = hashlib.sha256(weights.encode()).hexdigest()

    def request(self, prompt: str, seed: int, **settings: Any) -> ImageRequest:
        if (count := self.count_tokens(prompt)) > self.max_tokens:
            raise PromptTooLongError(prompt, count=count, limit=self.max_tokens)
        chosen = {
            "negative_prompt": "",
            "steps": 2,
            "guidance": 1.0,
            "scheduler": "ink",
            "width": 8,
            "height": 8,
        }
        return ImageRequest(
            generator=self.fingerprint,
            prompt=prompt,
            seed=seed,
            dtype="float32",
            device="cpu",
            versions="sound=1",
            **{**chosen, **settings},
        )

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            if request.generator != self.fingerprint:
                raise GeneratorError(f"the request was made for {request.generator}")
        return (self.draw(request, place) for place, request in enumerate(requests))

    def draw(self, request: ImageRequest, place: int) -> Image.Image:
        size = (request.width, request.height)
        return Image.frombytes(
            "RGB", size, hashlib.shake_256(request.key.encode()).digest(3 * size[0] * size[1])
        )

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split()) + 2


class SoundEncoder:
    """Mean colors of a 2x2 grid; a text's features are its letters' numbers."""

    uri = "sound"
    fingerprint = hashlib.sha256(b"sound").hexdigest()
    dim = 12
    logit_scale = 5.0
    context_length = 8

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        rows = [np.asarray(image.convert("RGB").resize((2, 2), Image.Resampling.BOX)) for image in images]
        return np.array(rows, dtype=np.float32).reshape(len(images), 12)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        if any(self.count_tokens(text) > self.context_length for text in texts):
            warnings.warn("texts are cut", UserWarning, stacklevel=2)
        rows = [np.resize(np.frombuffer(text.encode(), dtype=np.uint8), 12) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 12)

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2


def sound_metric(features: np.ndarray) -> Estimate:
    """Mean of the first feature; undefined for fewer than two images."""
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"expected (n, dim), not {matrix.shape}")
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise ValueError(f"row {bad[0]} has a NaN or an infinity")
    if len(matrix) < 2:
        return Estimate.undefined(len(matrix), "mean")
    return Estimate.of_mean(np.sort(matrix[:, 0]))


def sound_proposals(slots: Slots, measured: Measured, count: int, seed: int) -> list[dict[str, str]]:
    """Draws, and the best choice with one slot changed once there are some."""
    rng = np.random.default_rng([seed, len(measured)])
    drawn = [{name: str(rng.choice(options)) for name, options in slots.items()} for _ in range(count)]
    if len(measured) < 8:
        return drawn
    best = dict(max(measured, key=lambda pair: pair[1])[0])
    names = [str(rng.choice(list(slots))) for _ in drawn]
    return [best | {name: choice[name]} for name, choice in zip(names, drawn, strict=True)]
