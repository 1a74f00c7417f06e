"""Anatomical landmarks: z-line, pylorus, cecum, ileum, each drawn with its own wall."""

from __future__ import annotations

import numpy as np

from studies.phantom.canvas import Canvas, smoothstep
from studies.phantom.mucosa import draw_mucosa, highlight
from studies.phantom.scene import Thing


def draw_landmark(canvas: Canvas, kind: str, thing: Thing) -> None:
    {"z-line": _z_line, "pylorus": _pylorus, "cecum": _cecum, "ileum": _ileum}[kind](canvas, thing)


def _z_line(canvas: Canvas, thing: Thing) -> None:
    """Pale oesophagus meets red stomach along a jagged ring around the lumen."""
    draw_mucosa(canvas, "gastroscopy", lumen=(thing.x, thing.y), lumen_radius=0.28, folds=0.7, vessels=0.3)
    r, theta = canvas.polar(thing.x, thing.y)
    phases = canvas.rng.uniform(0, 2 * np.pi, 3)
    teeth = 0.10 * np.sin(5 * theta + phases[0]) + 0.07 * np.sin(9 * theta + phases[1])
    border = thing.radius * (1 + teeth + 0.10 * np.sin(2 * theta + phases[2]))
    pale = canvas.inside(border - r, soft=1.2)
    far = smoothstep(0.05, 0.9, r)
    lines = np.exp(-((canvas.noise(5) / 0.10) ** 2)) * smoothstep(0.1, 0.8, far)
    light = (0.62 + 0.40 * far + 0.03 * canvas.noise(24) + 0.05 * canvas.noise(5)) * (1 - 0.14 * lines)
    canvas.paint(0.86 * pale, np.clip(np.asarray([0.93, 0.75, 0.68], np.float32) * light[..., None], 0, 1))
    inner = canvas.inside(r - border, soft=1.2) * smoothstep(0.10, 0.2, r)
    canvas.paint(0.55 * inner, (0.72, 0.17, 0.14))
    canvas.glow(0.5 * smoothstep(2.2, 2.7, canvas.noise(14)) * pale)


def _pylorus(canvas: Canvas, thing: Thing) -> None:
    """A round black hole in a smooth swollen ring, radial folds running into it."""
    far = (thing.x, thing.y)
    draw_mucosa(canvas, "gastroscopy", lumen=far, lumen_radius=-0.15, folds=0.0, vessels=0.2)
    r, theta = canvas.polar(thing.x, thing.y)
    radius = thing.radius
    spokes = np.sin(9 * theta + 1.2 * canvas.noise(4) + canvas.rng.uniform(0, 6.28))
    canvas.shade(1 + 0.13 * spokes * smoothstep(1.9 * radius, 2.8 * radius, r))
    ring = np.exp(-(((r - 1.55 * radius) / (0.42 * radius)) ** 2))
    canvas.rgb += ring[..., None] * np.asarray([0.12, 0.13, 0.10], np.float32)
    groove = np.exp(-(((r - 2.35 * radius) / (0.25 * radius)) ** 2))
    canvas.shade(1 - 0.38 * groove)
    wobble = radius * (0.86 + 0.07 * np.sin(3 * theta + canvas.rng.uniform(0, 6.28)))
    canvas.paint(canvas.inside(r - wobble, soft=2.0), (0.07, 0.02, 0.02))
    highlight(canvas, thing.x - 0.9 * radius, thing.y - 1.2 * radius, 0.035)


def _cecum(canvas: Canvas, thing: Thing) -> None:
    """A blind end without lumen: three folds meet, beside them the crescent of the appendix."""
    draw_mucosa(canvas, "colonoscopy", lumen=(thing.x * 3, thing.y * 3 + 4), folds=0.0, vessels=1.3)
    r, _ = canvas.polar(thing.x, thing.y)
    start = thing.angle
    for arm in range(3):
        u, v = canvas.local(thing.x, thing.y, start + arm * 2 * np.pi / 3 + canvas.rng.uniform(-0.25, 0.25))
        bent = v - 0.35 * u * u * canvas.rng.uniform(-0.8, 0.8)
        along = smoothstep(0.08, 0.25, u)
        canvas.shade(1 - 0.55 * along * np.exp(-((bent / 0.075) ** 2)))
        canvas.rgb += (0.15 * along * np.exp(-(((bent - 0.13) / 0.075) ** 2)))[..., None]
    u, v = canvas.local(thing.x, thing.y, start + np.pi / 3)
    hole = np.abs(np.hypot(u, v) - 0.16) - 0.042
    crescent = canvas.inside(hole) * smoothstep(-0.02, 0.06, u)
    canvas.paint(0.92 * crescent, (0.14, 0.03, 0.03))
    canvas.shade(0.79 + 0.26 * smoothstep(1.6, 0.2, r))


def _ileum(canvas: Canvas, thing: Thing) -> None:
    """Velvet of villi: a fine bright granular texture, yellowish, around a small soft lumen."""
    draw_mucosa(canvas, "colonoscopy", lumen=(thing.x, thing.y), lumen_radius=0.15, folds=0.5, vessels=0.0)
    r, _ = canvas.polar(thing.x, thing.y)
    shade = canvas.rgb.mean(axis=2, keepdims=True)
    canvas.paint(np.full_like(r, 0.75), shade * np.asarray([1.45, 1.13, 0.72], np.float32))
    n = canvas.pixels // 6
    grain = canvas.noise(n)
    spread = smoothstep(0.10, 0.35, r)
    canvas.glow(0.40 * smoothstep(0.4, 1.8, grain) * spread, (1.0, 0.93, 0.72))
    canvas.shade(1 - 0.26 * smoothstep(0.4, 1.8, -grain) * spread)
