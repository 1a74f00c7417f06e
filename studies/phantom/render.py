"""A scene to pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from studies.phantom.canvas import Canvas
from studies.phantom.instruments import draw_instrument
from studies.phantom.landmarks import draw_landmark
from studies.phantom.lesions import draw_polyp
from studies.phantom.mucosa import draw_mucosa
from studies.phantom.optics import expose
from studies.phantom.scene import Scene

# Drawn at twice the size and averaged down, so that thin wires survive.
OVERSAMPLING = 2


def render(scene: Scene, *, size: int = 64) -> Image.Image:
    """Render a scene as an RGB image of ``size`` x ``size`` pixels; same scene, same pixels."""
    canvas = Canvas(size * OVERSAMPLING, np.random.default_rng(scene.seed))
    if scene.category == "landmarks":
        draw_landmark(canvas, scene.kind, scene.things[0])
    else:
        lumen = _free_spot(scene, canvas.rng)
        draw_mucosa(
            canvas, scene.procedure, lumen=lumen, folds=1.0 if scene.procedure == "colonoscopy" else 0.6
        )
    for thing in scene.things:
        if scene.category == "polyps":
            draw_polyp(canvas, thing, color=scene.color or "pink", paris=scene.paris or "is")
        elif scene.category == "instruments":
            draw_instrument(canvas, scene.kind, thing)
    frame = expose(
        canvas,
        scene.center,
        light=scene.light,
        sharpness=scene.sharpness,
        text=scene.text,
        box=scene.box,
    )
    return frame.resize((size, size), Image.Resampling.BOX)


def _free_spot(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """Where the tube runs away from the camera: of a few draws the one farthest from all things."""
    spots = rng.uniform(-0.6, 0.6, (6, 2))
    if not scene.things:
        return float(spots[0, 0]), float(spots[0, 1])
    places = np.asarray([(thing.x, thing.y) for thing in scene.things])
    nearest = np.linalg.norm(spots[:, None] - places[None], axis=2).min(axis=1)
    best = spots[int(nearest.argmax())]
    return float(best[0]), float(best[1])
