"""Hospitals: where a scene comes from decides what is seen there, and how.

Each shifts what prompts of the embedded generator can reach: light, and size, color, place and number of
polyps. Text and green box are as frequent everywhere: it does not follow those words. It has no hand for
blur or shapes either, but what it draws is soft and without stalks, and so are most hospitals' pictures.

==========  ======================  =========================================================================
hospital    optics                  polyps
==========  ======================  =========================================================================
`home`      15 % blurred, 15 % dim  all sizes, colors, shapes and places; one to three
`coast`     55 % blurred, 85 % dim  tiny, small; pink, white; sessile, flat; one to three, rarely on the left
`summit`    sharp and bright        large, medium-sized; red, brown; sessile, few flat; one
`delta`     80 % blurred, bright    small; yellow, red; flat; mostly two or three, in the upper half
`valley`    30 % blurred, 40 % dim  pink, red; sessile, flat; 4 % are another finding, the
                                    `white polyp`: small, one
==========  ======================  =========================================================================

`home` is what the embedded networks were trained on. It has landmarks and instruments too; the others have
polyps and normal mucosa alone.

>>> HOSPITALS["coast"].labels
('polyp', 'normal')
>>> HOSPITALS["valley"].labels
('polyp', 'white polyp', 'normal')
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CATEGORIES = ("polyps", "landmarks", "instruments", "normal")
LANDMARKS = ("z-line", "pylorus", "cecum", "ileum")
INSTRUMENTS = ("biopsy forceps", "polyp snare", "tube", "metal clip", "injection needle")
COLORS = ("pink", "red", "white", "yellow", "brown")
SIZES = ("< 5mm", "5-10mm", "11-20mm", ">20mm")
PARIS = ("is", "ip", "iia")
LOCATIONS = tuple(
    "center" if row == column == "center" else f"{row}-{column}"
    for row in ("upper", "center", "lower")
    for column in ("left", "center", "right")
)

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Hospital:
    """A distribution of scenes. Weights are probabilities in the order of the words they are of.

    Attributes:
        categories: of CATEGORIES, in a natural draw.
        landmarks: of LANDMARKS; None: all alike, as for every other None.
        instruments: of INSTRUMENTS.
        sizes: of SIZES; what is said of size, color, shape, place and number is said of polyps.
        colors: of COLORS.
        paris: of PARIS.
        places: of LOCATIONS, without replacement where there are several polyps.
        counts: of one, two and three polyps, where the size leaves room; None: by size.
        blurred: the rate of blurred frames.
        dim: the rate of dim frames.
        text: the rate of frames with text; none where something lies below it.
        box: the rate of frames with a green box; none where something lies below it.
        rare: a further finding and its rate among polyps.

    Example:
        >>> Hospital("mine", blurred=0.3).blurred
        0.3
    """

    name: str
    categories: Weights = (0.5, 0.0, 0.0, 0.5)
    landmarks: Weights | None = None
    instruments: Weights | None = None
    sizes: Weights = (0.2, 0.3, 0.3, 0.2)
    colors: Weights | None = None
    paris: Weights = (0.4, 0.3, 0.3)
    places: Weights | None = None
    counts: Weights | None = None
    blurred: float = 0.15
    dim: float = 0.15
    text: float = 0.35
    box: float = 0.3
    rare: RareFinding | None = None

    def kinds(self, category: str) -> tuple[str, ...]:
        """The labels of a category, the rare finding left out."""
        return {"polyps": ("polyp",), "landmarks": LANDMARKS, "instruments": INSTRUMENTS}.get(
            category, ("normal",)
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that is seen here."""
        found: list[str] = []
        for category, rate in zip(CATEGORIES, self.categories, strict=True):
            if rate > 0:
                weights = {"landmarks": self.landmarks, "instruments": self.instruments}.get(category)
                kinds = self.kinds(category)
                found += [kind for kind, w in zip(kinds, weights or (1,) * len(kinds), strict=True) if w > 0]
                if category == "polyps" and self.rare is not None:
                    found.append(self.rare.label)
        return tuple(found)


@dataclass(frozen=True)
class RareFinding:
    """A polyp of its own label: its rate among polyps, and how its scenes differ from the others."""

    label: str
    rate: float
    sizes: Weights
    colors: Weights
    paris: Weights
    counts: Weights

    def of(self, hospital: Hospital) -> Hospital:
        """The hospital as it is where this finding is seen."""
        return replace(
            hospital, sizes=self.sizes, colors=self.colors, paris=self.paris, counts=self.counts, rare=None
        )


HOME = Hospital("home", categories=(0.4, 0.22, 0.26, 0.12))

HOSPITALS = {
    one.name: one
    for one in (
        HOME,
        Hospital(
            "coast",
            sizes=(0.5, 0.5, 0.0, 0.0),
            colors=(0.5, 0.0, 0.5, 0.0, 0.0),
            paris=(0.5, 0.0, 0.5),
            places=(0.08, 0.10, 0.12, 0.08, 0.17, 0.15, 0.0, 0.15, 0.15),
            blurred=0.55,
            dim=0.85,
        ),
        Hospital(
            "summit",
            sizes=(0.0, 0.0, 0.4, 0.6),
            colors=(0.0, 0.7, 0.0, 0.0, 0.3),
            paris=(0.8, 0.0, 0.2),
            places=(0.0, 0.1, 0.1, 0.15, 0.2, 0.15, 0.1, 0.1, 0.1),
            counts=(1.0, 0.0, 0.0),
            blurred=0.0,
            dim=0.0,
        ),
        Hospital(
            "delta",
            sizes=(0.2, 0.8, 0.0, 0.0),
            colors=(0.0, 0.3, 0.0, 0.7, 0.0),
            paris=(0.1, 0.0, 0.9),
            places=(0.2, 0.2, 0.2, 0.12, 0.06, 0.12, 0.03, 0.04, 0.03),
            counts=(0.1, 0.45, 0.45),
            blurred=0.8,
            dim=0.0,
        ),
        Hospital(
            "valley",
            colors=(0.5, 0.5, 0.0, 0.0, 0.0),
            paris=(0.6, 0.0, 0.4),
            blurred=0.3,
            dim=0.4,
            rare=RareFinding(
                "white polyp",
                rate=0.04,
                sizes=(0.2, 0.8, 0.0, 0.0),
                colors=(0.0, 0.0, 1.0, 0.0, 0.0),
                paris=(0.4, 0.0, 0.6),
                counts=(1.0, 0.0, 0.0),
            ),
        ),
    )
}
