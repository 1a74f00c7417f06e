"""Polyps by Paris type: is (sessile), ip (on a stalk), iia (flat, slightly raised)."""

from __future__ import annotations

import numpy as np

from studies.phantom.canvas import Array, Canvas, segment_distance, smoothstep
from studies.phantom.mucosa import highlight
from studies.phantom.scene import Thing

TINT = {
    "pink": (0.98, 0.60, 0.66),
    "red": (0.80, 0.13, 0.13),
    "white": (0.95, 0.91, 0.86),
    "yellow": (0.93, 0.79, 0.30),
    "brown": (0.52, 0.30, 0.16),
}


def draw_polyp(canvas: Canvas, thing: Thing, *, color: str, paris: str) -> None:
    """Draw one polyp of ``color`` and Paris type at its place."""
    tint = np.asarray(TINT[color], np.float32) * (1 + 0.03 * canvas.rng.standard_normal(3).astype(np.float32))
    if paris == "ip":
        _stalk(canvas, thing)
        _dome(canvas, thing, tint, stretch=1.0, height=1.0, radius=0.86 * thing.radius)
    elif paris == "is":
        _dome(canvas, thing, tint, stretch=1.15, height=0.85, radius=thing.radius)
    else:
        _plateau(canvas, thing, tint)


def _outline(canvas: Canvas, thing: Thing, stretch: float, bumps: float) -> tuple[Array, Array, Array]:
    u, v = canvas.local(thing.x, thing.y, thing.angle)
    u, v = u / stretch, v * stretch
    theta = np.arctan2(v, u)
    phases = canvas.rng.uniform(0, 2 * np.pi, 3)
    wobble = 1 + bumps * (0.6 * np.sin(2 * theta + phases[0]) + 0.5 * np.sin(3 * theta + phases[1]))
    wobble = wobble + bumps * 0.35 * np.sin(5 * theta + phases[2])
    return np.hypot(u, v) / wobble, u, v


def _dome(canvas: Canvas, thing: Thing, tint: Array, *, stretch: float, height: float, radius: float) -> None:
    r, _, _ = _outline(canvas, thing, stretch, 0.06)
    # A soft dark halo toward the far side: the polyp stands out from the wall.
    rr, _ = canvas.polar(thing.x * 1.06, thing.y * 1.06 + 0.18 * radius)
    canvas.shade(1 - 0.45 * smoothstep(1.35 * radius, 0.85 * radius, rr))
    mask = canvas.inside(r - radius)
    q = np.clip(r / radius, 0, 1)
    nz = np.sqrt(np.clip(1 - height * q * q, 0.02, 1))
    lit = (canvas.x - thing.x) * -thing.x + (canvas.y - thing.y) * (-thing.y - 0.5)
    shading = 0.42 + 0.58 * nz + 0.25 * lit / radius
    texture = 1 + 0.05 * canvas.noise(22)
    body = tint[None, None] * np.clip(shading * texture, 0.2, 1.2)[..., None]
    canvas.paint(mask, np.clip(body, 0, 1))
    gleam = 0.35 * radius
    highlight(canvas, thing.x - 0.6 * gleam, thing.y - gleam, 0.16 * radius + 0.012, strength=0.8)


def _stalk(canvas: Canvas, thing: Thing) -> None:
    length = 2.3 * thing.radius
    # Of a few directions the one that keeps the foot in view: a stalk that cannot be seen is no sign.
    ways = canvas.rng.uniform(0, 2 * np.pi, 4)
    feet = [(thing.x + length * float(np.cos(way)), thing.y + length * float(np.sin(way))) for way in ways]
    foot = min(feet, key=lambda place: np.hypot(*place))
    distance, t = segment_distance(canvas, (thing.x, thing.y), foot)
    width = thing.radius * (0.32 + 0.20 * t * t)
    canvas.shade(1 - 0.5 * smoothstep(1.0, 0.5, distance / (1.7 * width)))
    mask = canvas.inside(distance - width)
    shading = 0.62 + 0.38 * np.sqrt(np.clip(1 - (distance / (width + 1e-6)) ** 2, 0, 1))
    canvas.paint(mask, np.asarray([0.97, 0.66, 0.58], np.float32) * shading[..., None])


def _plateau(canvas: Canvas, thing: Thing, tint: Array) -> None:
    radius = 1.08 * thing.radius
    r, _, _ = _outline(canvas, thing, 1.3, 0.12)
    mask = canvas.inside(r - radius, soft=1.6)
    texture = 1 + 0.10 * canvas.noise(16) + 0.05 * canvas.noise(30)
    # Flat: hardly any shading, a thin lit brim above and a thin shadow below.
    brim = np.exp(-(((r - 0.93 * radius) / (0.10 * radius)) ** 2))
    slope = np.clip((canvas.y - thing.y) / radius, -1, 1)
    body = tint[None, None] * (0.86 * texture - 0.28 * brim * slope)[..., None]
    canvas.paint(0.88 * mask, np.clip(body, 0, 1))
