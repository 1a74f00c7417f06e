"""Decoded tensors to pictures, and the pictures that are none."""

from __future__ import annotations

import torch
from PIL import Image

_BLACK, _SAME = 3, 2  # levels of 255


def to_pictures(decoded: torch.Tensor) -> list[tuple[Image.Image, str | None]]:
    """RGB pictures of decoded tensors (n, 3, height, width), -1 to 1, each with its fault or None.

    Faults: "not finite" (a NaN or an infinity among the values), "black" (no value over 3 of 255), "of one
    color" (no channel spans more than 2 of 255). A picture of a single pixel is spared the last.
    """
    finite = torch.isfinite(decoded).flatten(1).all(1)
    # Rounded on the device, so that a fourth of the bytes travels; the arithmetic is that of diffusers.
    shown = (decoded * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float()
    levels = torch.where(finite.view(-1, 1, 1, 1), shown * 255, 0).round().to(torch.uint8)
    flat = levels.flatten(1, 2)
    highest, lowest = flat.amax(1).int(), flat.amin(1).int()  # (n, 3)
    black = (highest <= _BLACK).all(1)
    plain = (highest - lowest <= _SAME).all(1) & (flat.shape[1] > 1)
    faults = zip(finite.tolist(), black.tolist(), plain.tolist(), strict=True)
    return [
        (Image.fromarray(pixels), _fault(*fault))
        for pixels, fault in zip(levels.cpu().numpy(), faults, strict=True)
    ]


def to_pixels(picture: Image.Image, *, width: int, height: int) -> torch.Tensor:
    """(1, 3, height, width), -1 to 1, of an RGB picture, resized with Pillow's antialiased bicubic."""
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    levels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return levels.view(1, height, width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1


def _fault(finite: bool, black: bool, plain: bool) -> str | None:
    if not finite:
        return "not finite"
    return "black" if black else "of one color" if plain else None
