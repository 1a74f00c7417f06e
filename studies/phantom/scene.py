"""What a phantom image shows: the truth from which it is rendered and captioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptopt.base.errors import ArgumentError
from studies.phantom.hospitals import (
    CATEGORIES,
    COLORS,
    HOME,
    INSTRUMENTS,
    LANDMARKS,
    LOCATIONS,
    PARIS,
    SIZES,
    Hospital,
    Weights,
)

CENTERS = ("north", "south")
SHARPNESS = ("sharp", "blurred")
LIGHT = ("bright", "dim")

# The 3x3 grid of the challenge; x to the right, y downwards, both in [-1, 1].
CELLS: dict[str, tuple[float, float]] = dict(
    zip(LOCATIONS, ((x, y) for y in (-0.52, 0.0, 0.52) for x in (-0.52, 0.0, 0.52)), strict=True)
)
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


def sample_scene(
    rng: np.random.Generator,
    *,
    category: str | None = None,
    kind: str | None = None,
    hospital: Hospital = HOME,
) -> Scene:
    """Draw a scene of a hospital; ``category`` or ``kind`` (a label) may be fixed, all else is random.

    Raises:
        ValueError: if ``category`` or ``kind`` is unknown, or not seen in that hospital.
    """
    if kind is not None:
        category = _category_of(kind, hospital)
    category = category or _pick(rng, CATEGORIES, hospital.categories)
    if category not in CATEGORIES:
        raise ArgumentError(f"unknown category {category!r}; choose one of {', '.join(CATEGORIES)}")
    rare = hospital.rare
    if category == "polyps" and rare is not None:
        if kind is None and rng.random() < rare.rate:
            kind = rare.label
        if kind == rare.label:
            hospital = rare.of(hospital)
    kinds = {"landmarks": hospital.landmarks, "instruments": hospital.instruments}
    kind = kind or _pick(rng, hospital.kinds(category), kinds.get(category))
    polyps = category == "polyps"
    either = rng.random() < 0.25  # where both are possible
    stomach = {"z-line": True, "pylorus": True, "cecum": False, "ileum": False}.get(
        kind, either and not polyps
    )
    procedure = "gastroscopy" if stomach else "colonoscopy"
    size = _pick(rng, SIZES, hospital.sizes) if polyps else None
    things = _place_things(rng, category, kind, size, hospital)
    occupied = {thing.location for thing in things}
    return Scene(
        category=category,
        kind=kind,
        center=_pick(rng, CENTERS, (0.6, 0.4)),
        procedure=procedure,
        things=things,
        color=_pick(rng, COLORS, hospital.colors) if polyps else None,
        size=size,
        paris=_pick(rng, PARIS, hospital.paris) if polyps else None,
        # Overlays may not hide what the caption promises.
        text=bool(rng.random() < hospital.text) and "upper-left" not in occupied,
        box=bool(rng.random() < hospital.box) and "lower-left" not in occupied,
        sharpness=_pick(rng, SHARPNESS, (1 - hospital.blurred, hospital.blurred)),
        light=_pick(rng, LIGHT, (1 - hospital.dim, hospital.dim)),
        seed=int(rng.integers(2**63)),
    )


def _category_of(kind: str, hospital: Hospital) -> str:
    if hospital.rare is not None and kind == hospital.rare.label:
        return "polyps"
    for category in CATEGORIES:
        if kind in hospital.kinds(category):
            return category
    raise ArgumentError(
        f"unknown kind {kind!r}; choose polyp, normal or one of {', '.join(LANDMARKS + INSTRUMENTS)}"
    )


def _place_things(
    rng: np.random.Generator, category: str, kind: str, size: str | None, hospital: Hospital
) -> tuple[Thing, ...]:
    if category == "normal":
        return ()
    if category == "polyps":
        assert size is not None
        count = int(rng.choice(3, p=_numbers(size, hospital))) + 1
        if hospital.places is None:
            cells = list(rng.permutation(LOCATIONS)[:count])
        else:
            cells = list(rng.choice(LOCATIONS, size=count, replace=False, p=hospital.places))
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


def _numbers(size: str, hospital: Hospital) -> Weights:
    """Probabilities of one, two and three polyps of a size."""
    by_size = {"< 5mm": (0.5, 0.27, 0.23), "5-10mm": (0.5, 0.27, 0.23), "11-20mm": (0.7, 0.3, 0.0)}.get(
        size, (1.0, 0.0, 0.0)
    )
    if hospital.counts is None:
        return by_size
    possible = [w if room > 0 else 0.0 for w, room in zip(hospital.counts, by_size, strict=True)]
    return tuple(w / sum(possible) for w in possible)


def _pick(rng: np.random.Generator, options: tuple[str, ...], p: Weights | None = None) -> str:
    return str(options[int(rng.choice(len(options), p=p))])
