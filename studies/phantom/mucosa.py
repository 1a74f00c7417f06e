"""The wall of the gut: a lit tube with folds, vessels, wet highlights."""

from __future__ import annotations

import numpy as np

from studies.phantom.canvas import Canvas, smoothstep

# Base colors by procedure: the colon is orange-pink, the stomach salmon red.
BASE = {"colonoscopy": (0.86, 0.50, 0.40), "gastroscopy": (0.84, 0.43, 0.37)}


def draw_mucosa(
    canvas: Canvas,
    procedure: str,
    *,
    lumen: tuple[float, float],
    lumen_radius: float = 0.42,
    folds: float = 1.0,
    vessels: float = 1.0,
) -> None:
    """Fill the canvas with mucosa around a dark lumen; ``folds`` and ``vessels`` scale their strength."""
    rng = canvas.rng
    r, theta = canvas.polar(*lumen)
    warp = 1 + 0.13 * canvas.noise(4)
    r = r * warp
    base = np.asarray(BASE[procedure], np.float32) * (1 + 0.05 * rng.standard_normal(3).astype(np.float32))
    tone = canvas.noise(3)[..., None]
    canvas.rgb = base + tone * np.asarray([0.02, 0.035, 0.03], np.float32)
    fine = canvas.noise(28)
    canvas.shade(1 + 0.03 * fine)

    # Vessels lie where a smooth field changes sign: thin, branching, never crossing themselves.
    field = canvas.noise(6)
    slope = 0.05 + 0.4 * np.abs(canvas.noise(5))
    lines = np.exp(-((field / (0.10 * slope + 0.02)) ** 2)) * np.clip(canvas.noise(3) + 0.3, 0, 1)
    canvas.rgb *= 1 - 0.42 * vessels * lines[..., None] * np.asarray([0.35, 0.9, 0.8], np.float32)

    # Folds: rings in perspective, so evenly spaced in the logarithm of the radius; broken by the angle.
    phase = 7.5 * np.log(r + 0.16) + 0.9 * np.sin(theta + rng.uniform(0, 6.28)) + rng.uniform(0, 6.28)
    ridge = np.exp(-(((np.sin(phase) - 1) / 0.55) ** 2))
    arc = 0.55 + 0.45 * np.sin(3 * theta + rng.uniform(0, 6.28))
    strength = folds * arc * smoothstep(0.12, 0.5, r)
    canvas.shade(
        1 + 0.24 * strength * ridge - 0.30 * strength * (np.sin(phase + 0.9) < -0.35) * np.abs(np.sin(phase))
    )

    # The light sits on the camera: near wall bright, the depth of the tube dark.
    depth = smoothstep(0.05, lumen_radius + 0.25, r)
    canvas.shade(0.16 + 0.84 * depth)
    canvas.rgb *= 1 - (1 - depth[..., None]) * np.asarray([0.0, 0.25, 0.3], np.float32)
    wet = canvas.noise(13) + 0.35 * ridge * folds
    canvas.glow(0.75 * smoothstep(2.2, 2.7, wet) * depth)


def highlight(canvas: Canvas, x: float, y: float, radius: float, *, strength: float = 0.85) -> None:
    """A wet spot that mirrors the lamp."""
    r, _ = canvas.polar(x, y)
    canvas.glow(strength * np.exp(-((r / radius) ** 2)))
