"""What a phantom image shows: the truth from which it is rendered and captioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

CATEGORIES = ("polyps", "landmarks", "instruments", "normal")
LANDMARKS = ("z-line", "pylorus", "cecum", "ileum")
INSTRUMENTS = ("biopsy forceps", "polyp snare", "tube", "metal clip", "injection needle")
COLORS = ("pink", "red", "white", "yellow", "brown")
SIZES = ("< 5mm", "5-10mm", "11-20mm", ">20mm")
PARIS = ("is", "ip", "iia")
CENTERS = ("north", "south")
SHARPNESS = ("sharp", "blurred")
LIGHT = ("bright", "dim")

# The 3x3 grid of the challenge; x to the right, y downwards, both in [-1, 1].
CELLS: dict[str, tuple[float, float]] = {
    f"{row}-{column}".replace("center-center", "center"): (x, y)
    for row, y in (("upper", -0.52), ("center", 0.0), ("lower", 0.52))
    for column, x in (("left", -0.52), ("center", 0.0), ("right", 0.52))
}
LOCATIONS = tuple(CELLS)
# Half-width of a polyp in units of half the image: what a size in mm looks like at the usual distance.
RADIUS = {"< 5mm": (0.13, 0.16), "5-10mm": (0.19, 0.23), "11-20mm": (0.27, 0.32), ">20mm": (0.39, 0.46)}


@dataclass(frozen=True)
class Thing:
    """One polyp, landmark or instrument tip: its cell of the 3x3 grid and its exact place.

    Example:
        >>> thing = Thing("center", x=0.5, y=0.5, radius=0.1, angle=0.0)
        >>> thing.location
        'center'
    """

    location: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """The truth of one image. ``seed`` drives every texture: same scene, same pixels.

    Example:
        >>> import numpy as np
        >>> scene = sample_scene(np.random.default_rng(0), category="polyps")
        >>> scene.category, scene.count == len(scene.attributes()["locations"])
        ('polyps', True)
    """

    category: str
    kind: str
    center: str
    procedure: str
    things: tuple[Thing, ...]
    color: str | None
    size: str | None
    paris: str | None
    text: bool
    box: bool
    sharpness: str
    light: str
    seed: int

    @property
    def count(self) -> int:
        return len(self.things)

    def attributes(self) -> Mapping[str, Any]:
        """The truth as plain JSON values, as written to ``metadata.jsonl``."""
        return {
            "category": self.category,
            "kind": self.kind,
            "count": self.count,
            "locations": [thing.location for thing in self.things],
            "color": self.color,
            "size": self.size,
            "paris": self.paris,
            "text": self.text,
            "box": self.box,
            "procedure": self.procedure,
            "center": self.center,
            "sharpness": self.sharpness,
            "light": self.light,
        }


def sample_scene(rng: np.random.Generator, *, category: str | None = None, kind: str | None = None) -> Scene:
    """Draw a scene; ``category`` or ``kind`` may be fixed, all else is random.

    Raises:
        ValueError: if ``category`` or ``kind`` is unknown.
    """
    if kind is not None:
        category = _category_of(kind)
    category = category or _pick(rng, CATEGORIES, (0.4, 0.22, 0.26, 0.12))
    kinds = {"polyps": ("polyp",), "landmarks": LANDMARKS, "instruments": INSTRUMENTS, "normal": ("normal",)}
    if category not in kinds:
        raise ValueError(f"unknown category {category!r}; choose one of {', '.join(CATEGORIES)}")
    kind = kind or _pick(rng, kinds[category])
    gastric = {"z-line": True, "pylorus": True, "cecum": False, "ileum": False, "polyp": False}
    procedure = "gastroscopy" if gastric.get(kind, rng.random() < 0.25) else "colonoscopy"
    size = _pick(rng, SIZES, (0.2, 0.3, 0.3, 0.2)) if category == "polyps" else None
    things = _place_things(rng, category, kind, size)
    occupied = {thing.location for thing in things}
    return Scene(
        category=category,
        kind=kind,
        center=_pick(rng, CENTERS, (0.6, 0.4)),
        procedure=procedure,
        things=things,
        color=_pick(rng, COLORS) if category == "polyps" else None,
        size=size,
        paris=_pick(rng, PARIS, (0.4, 0.3, 0.3)) if category == "polyps" else None,
        # Overlays may not hide what the caption promises.
        text=bool(rng.random() < 0.35) and "upper-left" not in occupied,
        box=bool(rng.random() < 0.3) and "lower-left" not in occupied,
        sharpness=_pick(rng, SHARPNESS, (0.85, 0.15)),
        light=_pick(rng, LIGHT, (0.85, 0.15)),
        seed=int(rng.integers(2**63)),
    )


def _category_of(kind: str) -> str:
    for category, kinds in (
        ("polyps", ("polyp",)),
        ("landmarks", LANDMARKS),
        ("instruments", INSTRUMENTS),
        ("normal", ("normal",)),
    ):
        if kind in kinds:
            return category
    raise ValueError(
        f"unknown kind {kind!r}; choose polyp, normal or one of {', '.join(LANDMARKS + INSTRUMENTS)}"
    )


def _place_things(rng: np.random.Generator, category: str, kind: str, size: str | None) -> tuple[Thing, ...]:
    if category == "normal":
        return ()
    if category == "polyps":
        assert size is not None
        most = {"< 5mm": (0.5, 0.27, 0.23), "5-10mm": (0.5, 0.27, 0.23), "11-20mm": (0.7, 0.3, 0.0)}
        count = int(rng.choice(3, p=most.get(size, (1.0, 0.0, 0.0)))) + 1
        cells = list(rng.permutation(LOCATIONS)[:count])
        low, high = RADIUS[size]
    else:
        # A ring, a hole or a cleft is mostly looked at straight on.
        central = category == "landmarks" and rng.random() < 0.3
        cells = ["center" if central else _pick(rng, LOCATIONS)]
        low, high = {"pylorus": (0.17, 0.24), "z-line": (0.36, 0.46), "metal clip": (0.24, 0.32)}.get(
            kind, (0.26, 0.36)
        )
    jitter = 0.09
    return tuple(
        Thing(
            location=str(cell),
            x=CELLS[cell][0] + float(rng.uniform(-jitter, jitter)),
            y=CELLS[cell][1] + float(rng.uniform(-jitter, jitter)),
            radius=float(rng.uniform(low, high)),
            angle=float(rng.uniform(0, 2 * np.pi)),
        )
        for cell in cells
    )


def _pick(rng: np.random.Generator, options: tuple[str, ...], p: tuple[float, ...] | None = None) -> str:
    return str(options[int(rng.choice(len(options), p=p))])
