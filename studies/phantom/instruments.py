"""Instruments: forceps, snare, tube, clip, needle; the tip lies in the named cell."""

from __future__ import annotations

import numpy as np

from studies.phantom.canvas import Array, Canvas, segment_distance, smoothstep
from studies.phantom.scene import Thing

STEEL = (0.74, 0.77, 0.80)


def draw_instrument(canvas: Canvas, kind: str, thing: Thing) -> None:
    {
        "biopsy forceps": _forceps,
        "polyp snare": _snare,
        "tube": _tube,
        "metal clip": _clip,
        "injection needle": _needle,
    }[kind](canvas, thing)


def _direction(canvas: Canvas, thing: Thing) -> float:
    """Angle from the tip toward where the instrument enters: the working channel lies at an edge."""
    outward = np.arctan2(thing.y, thing.x) if np.hypot(thing.x, thing.y) > 0.25 else thing.angle
    return float(outward + canvas.rng.uniform(-0.45, 0.45))


def _rod(
    canvas: Canvas, start: tuple[float, float], angle: float, length: float, width: float, color: object
) -> Array:
    """A cylinder from ``start``; returns its coverage."""
    end = (start[0] + length * float(np.cos(angle)), start[1] + length * float(np.sin(angle)))
    distance, _ = segment_distance(canvas, start, end)
    canvas.shade(1 - 0.40 * smoothstep(2.4 * width, 0.8 * width, distance))
    mask = canvas.inside(distance - width)
    _, v = canvas.local(start[0], start[1], angle)
    light = 0.55 + 0.45 * np.sqrt(np.clip(1 - (v / width) ** 2, 0, 1))
    gleam = 0.5 * np.exp(-(((v + 0.35 * width) / (0.30 * width)) ** 2))
    body = np.asarray(color, np.float32) * light[..., None] + 0.45 * gleam[..., None]
    canvas.paint(mask, np.clip(body, 0, 1))
    return mask


def _along(thing: Thing, angle: float, length: float) -> tuple[float, float]:
    return thing.x + length * float(np.cos(angle)), thing.y + length * float(np.sin(angle))


def _forceps(canvas: Canvas, thing: Thing) -> None:
    angle = _direction(canvas, thing)
    hinge = _along(thing, angle, 0.16)
    _rod(canvas, hinge, angle, 3.0, 0.075, (0.62, 0.64, 0.67))
    for side in (-1, 1):
        jaw = angle + np.pi + side * canvas.rng.uniform(0.5, 0.7)
        _rod(canvas, hinge, float(jaw), 0.30, 0.055, STEEL)
        tip = (hinge[0] + 0.30 * float(np.cos(jaw)), hinge[1] + 0.30 * float(np.sin(jaw)))
        _rod(canvas, tip, float(jaw - side * 1.0), 0.10, 0.05, STEEL)
    r, _ = canvas.polar(*hinge)
    canvas.paint(canvas.inside(r - 0.085), (0.42, 0.44, 0.48))


def _snare(canvas: Canvas, thing: Thing) -> None:
    angle = _direction(canvas, thing)
    mouth = _along(thing, angle, 0.30)
    _rod(canvas, mouth, angle, 3.0, 0.085, (0.50, 0.72, 0.92))
    u, v = canvas.local(thing.x, thing.y, angle)
    a, b = 0.31, canvas.rng.uniform(0.19, 0.25)
    ring = np.abs(np.hypot(u / a, v / b) - 1) * b
    canvas.shade(1 - 0.35 * smoothstep(0.09, 0.02, np.abs(ring - 0.01)))
    canvas.paint(canvas.inside(ring - 0.026), (0.97, 0.97, 0.93))


def _tube(canvas: Canvas, thing: Thing) -> None:
    angle = _direction(canvas, thing)
    width = 0.20
    start = _along(thing, angle, 0.05)
    mask = _rod(canvas, start, angle, 3.0, width, (0.13, 0.13, 0.16))
    u, v = canvas.local(start[0], start[1], angle)
    # White centimeter marks tell the endoscope's own shaft from shadow.
    marks = (np.abs(np.mod(u, 0.34) - 0.22) < 0.035) & (u > 0.05)
    bend = np.sqrt(np.clip(1 - (v / width) ** 2, 0, 1))
    canvas.paint(
        0.9 * mask * marks, np.asarray([0.92, 0.92, 0.9], np.float32) * (0.4 + 0.6 * bend)[..., None]
    )


def _clip(canvas: Canvas, thing: Thing) -> None:
    """Two short prongs on a stub, standing in the mucosa without a shaft."""
    angle = thing.angle
    stub = _along(thing, angle, 0.05)
    _rod(canvas, stub, angle, 0.22, 0.062, (0.88, 0.78, 0.42))
    for side in (-1, 1):
        _rod(canvas, stub, float(angle + np.pi + side * 0.42), 0.26, 0.038, (0.90, 0.91, 0.93))


def _needle(canvas: Canvas, thing: Thing) -> None:
    """A green sheath, a thin bright needle, and the blue bleb that it raised."""
    angle = _direction(canvas, thing)
    r, _ = canvas.polar(*_along(thing, angle + np.pi, 0.17))
    bleb = 0.17
    canvas.shade(1 - 0.3 * smoothstep(1.4 * bleb, 0.9 * bleb, r))
    dome = 0.6 + 0.5 * np.sqrt(np.clip(1 - (r / bleb) ** 2, 0, 1))
    canvas.paint(
        0.85 * canvas.inside(r - bleb, soft=2.0), np.asarray([0.36, 0.42, 0.80], np.float32) * dome[..., None]
    )
    _rod(canvas, _along(thing, angle, 0.18), angle, 3.0, 0.095, (0.16, 0.66, 0.46))
    _rod(canvas, _along(thing, angle + np.pi, 0.06), angle, 0.28, 0.028, (0.93, 0.95, 0.97))
