"""ImageRequest: everything that can change a pixel of a generated image, and the key made of it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from typing import Any

from generators.errors import GeneratorError

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """One image, asked for completely: two equal requests give equal pixels on the same kind of device.

    Attributes:
        generator: fingerprint of the weights and configurations (sha256, hexadecimal).
        prompt: the prompt; may be empty.
        negative_prompt: what guidance leads away from; may be empty. It has no effect at guidance <= 1.
        seed: 0 to 2**63 - 1; the initial noise is drawn from it alone.
        steps: number of scheduler steps, at least 1.
        guidance: classifier-free guidance scale, finite and >= 0; above 1 it is active.
        scheduler: name of the sampler, such as "dpmpp_2m".
        width, height: pixels.
        dtype: "float32", "float16" or "bfloat16".
        device: kind of device, "cpu" or "cuda", without an index.
        versions: library versions and whatever else of the runtime changes rounding, such as the batch size.

    Example:
        >>> from generators import load
        >>> request = load("embedded", device="cpu").request("a polyp", 7, steps=4)
        >>> request.prompt, request.seed, request.steps, len(request.key)
        ('a polyp', 7, 4, 64)
        >>> ImageRequest.from_json(request.to_json()) == request
        True
    """

    generator: str
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance: float
    scheduler: str
    width: int
    height: int
    dtype: str
    device: str
    versions: str

    def __post_init__(self) -> None:
        for name in ("generator", "prompt", "negative_prompt", "scheduler", "dtype", "device", "versions"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise GeneratorError(f"{name} is {value!r}; it must be text")
            if not value and name not in ("prompt", "negative_prompt"):
                raise GeneratorError(f"{name} is empty; it must name what makes the image")
        for name in ("seed", "steps", "width", "height"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise GeneratorError(f"{name} is {value!r}; it must be a whole number")
        for name in ("steps", "width", "height"):
            if getattr(self, name) < 1:
                raise GeneratorError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise GeneratorError(f"seed is {self.seed}; it must lie between 0 and 2**63 - 1")
        guidance = self.guidance
        if isinstance(guidance, bool) or not isinstance(guidance, (int, float)) or not _finite(guidance):
            raise GeneratorError(f"guidance is {guidance!r}; it must be a finite number")
        if guidance < 0:
            raise GeneratorError(f"guidance is {guidance}; it must be at least 0 (1 or less switches it off)")

    @property
    def key(self) -> str:
        """sha256 (64 hexadecimal digits) of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII, shortest round-trip floats."""
        # 7 and 7.0, 0.0 and -0.0 make the same image, so they must make the same key.
        content = {**vars(self), "guidance": float(self.guidance) + 0.0}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ImageRequest:
        """Inverse of to_json. Raises GeneratorError on a missing, unknown or invalid field."""
        try:
            values: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise GeneratorError(f"an image request is not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise GeneratorError(f"an image request must be a JSON object, not {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise GeneratorError(f"an image request has unknown fields {unknown}; known: {sorted(known)}")
        if missing := sorted(known - values.keys()):
            raise GeneratorError(f"an image request lacks the fields {missing}")
        return cls(**values)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False
