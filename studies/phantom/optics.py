"""The camera of each center, and what its video processor writes over the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from studies.phantom.canvas import Array, Canvas, smoothstep


@dataclass(frozen=True)
class Optics:
    """How a center's endoscope sees: field stop, color gains, gamma, vignette."""

    stop: str
    gains: tuple[float, float, float]
    gamma: float
    vignette: float
    saturation: float


OPTICS = {
    "north": Optics(stop="octagon", gains=(1.04, 0.98, 0.94), gamma=0.92, vignette=0.25, saturation=1.06),
    "south": Optics(stop="circle", gains=(0.92, 0.97, 1.10), gamma=1.08, vignette=0.45, saturation=0.82),
}


def expose(canvas: Canvas, center: str, *, light: str, sharpness: str, text: bool, box: bool) -> Image.Image:
    """Turn the lit scene into the frame that the processor stores, RGB at the canvas's own size."""
    optics = OPTICS[center]
    rng = canvas.rng
    r = np.hypot(canvas.x, canvas.y)
    rgb = np.clip(canvas.rgb, 0, 1) * np.asarray(optics.gains, np.float32)
    grey = rgb.mean(axis=2, keepdims=True)
    rgb = grey + optics.saturation * (rgb - grey)
    rgb = np.clip(rgb * (1 - optics.vignette * r**2 * 0.5)[..., None], 0, 1) ** optics.gamma
    rgb *= 0.5 if light == "dim" else 1.0
    frame = Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    if sharpness == "blurred":
        frame = frame.filter(ImageFilter.GaussianBlur(canvas.pixels * 0.024))
    rgb = np.asarray(frame, np.float32) / 255
    rgb = rgb + rng.normal(0, 0.012, rgb.shape).astype(np.float32)
    rgb = rgb * field_stop(canvas, optics.stop)[..., None]
    frame = Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    if box:
        _draw_box(frame, rng)
    if text:
        _draw_text(frame, rng)
    return frame


def field_stop(canvas: Canvas, shape: str) -> Array:
    """The mask that leaves the corners black: 1 inside, 0 outside."""
    ax, ay = np.abs(canvas.x), np.abs(canvas.y)
    if shape == "circle":
        return smoothstep(1.16, 1.13, np.hypot(canvas.x, canvas.y))
    return smoothstep(1.62, 1.585, ax + ay)


def _draw_box(frame: Image.Image, rng: np.random.Generator) -> None:
    """The position monitor of the lower left: black ground, green outline and course of the scope."""
    size = frame.width
    side = int(size * 0.30)
    top = size - side
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, top, side, size), fill=(4, 8, 5))
    width = max(1, size // 64)
    draw.rectangle((0, top, side, size - 1), outline=(20, 150, 50), width=width)
    points = [(side * (0.25 + 0.5 * rng.random()), top + side * f) for f in (0.9, 0.7, 0.5, 0.3, 0.15)]
    draw.line(points, fill=(40, 225, 80), width=2 * width, joint="curve")


def _draw_text(frame: Image.Image, rng: np.random.Generator) -> None:
    """Date and numbers in the upper left, as video processors print them (invented values)."""
    size = frame.width
    font = ImageFont.load_default(size=size * 0.085)
    draw = ImageDraw.Draw(frame)
    lines = (
        f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}",
        f"{rng.integers(8, 18)}:{rng.integers(60):02d}",
        "CVP:1",
    )
    for row, line in enumerate(lines[: int(rng.integers(2, 4))]):
        at = (size * 0.02, size * (0.03 + 0.095 * row))
        draw.text(
            at, line, fill=(235, 235, 225), font=font, stroke_width=max(1, size // 90), stroke_fill=(0, 0, 0)
        )
