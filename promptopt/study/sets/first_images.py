"""What a search has so far in one picture, long before the report: real images, the baseline's, the set's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from pathlib import Path

from promptopt.base.images import read_image
from promptopt.formatting.pictures import Tile, contact_sheet
from promptopt.study.sets.search import ClassSearch

_ACROSS = 8  # images of a row
_SIDE = 96  # pixels of each


def write_first_images(path: Path, classes: Mapping[str, ClassSearch], *, real: str) -> Path:
    """Write a contact sheet with three rows for each class; nothing in it is confirmed.

    The set's row has the first image of each of its prompts, the heaviest first, then the second ones.

    Args:
        real: what the data set's images are called: "real" or "phantom".
    """
    rows = []
    for label, one in classes.items():
        shown = {
            f"{label}: {real} images": one.setup.positives.where(pool="reference").paths(),
            f"{label}: baseline, {one.baseline.label}": [image.path for image in one.images[one.baseline]],
            f"{label}: the set after {one.known.images} images of the search": _of_set(one),
        }
        for title, paths in shown.items():
            rows.append((title, [Tile(read_image(file), "") for file in islice(paths, _ACROSS)]))
    return contact_sheet(rows, path, tile=_SIDE, columns=_ACROSS)


def _of_set(one: ClassSearch) -> Iterator[Path]:
    heaviest = sorted(one.known.weights, key=lambda candidate: -one.known.weights[candidate])
    for images in zip_longest(*(one.images[candidate] for candidate in heaviest)):
        yield from (image.path for image in images if image is not None)
