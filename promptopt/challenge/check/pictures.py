"""Checks of images: that they can be read, show something, are synthetic and not one another's copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptopt.base.images import ImageFileError, load_image, to_rgb
from promptopt.challenge.check.findings import Findings

SIDE = 16
NEAR = 2.0
"""Two pictures are near-duplicates where the root mean square difference of their thumbnails, 16 x 16 of
three colors from 0 to 255, is below this: one saved again or changed by a shade, not two of one prompt."""
_BLACK, _SAME = 3, 2  # levels of 255, as where images are made
_BLOCK = 1024
_SHOWN = 20  # findings of one kind that are told one by one

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A readable image: the hash of its pixels, and its thumbnail as a row of 16 x 16 x 3 levels."""

    own: Path
    size: tuple[int, int]
    digest: str
    thumbnail: Pixels


def read_picture(path: Path, own: Path) -> tuple[Picture, bool, Pixels]:
    """The picture, whether it says that it is synthetic, and its pixels (height, width, 3).

    Raises ImageFileError for a file that is no whole image.
    """
    image = load_image(path)
    rgb = to_rgb(image)
    texts = {**getattr(image, "text", {}), **image.info}
    pixels = np.asarray(rgb)
    digest = hashlib.sha256(repr(rgb.size).encode() + pixels.tobytes()).hexdigest()
    small = np.asarray(rgb.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)
    return Picture(own, rgb.size, digest, small), texts.get("synthetic") == "true", pixels


def check_pictures(folder: Path, files: Sequence[Path], findings: Findings) -> list[Picture]:
    """All images of one kind: readable, not black or plain, synthetic, of one size, none twice."""
    found = []
    for own in files:
        try:
            picture, synthetic, pixels = read_picture(folder / own, own)
        except ImageFileError as error:
            findings.error(own, error.problem, "Make the image again")
            continue
        if pixels.max(initial=0) <= _BLACK:
            findings.error(
                own, "is black", "Make it again; a safety checker that blacks out images must be off"
            )
        elif int(np.ptp(pixels.reshape(-1, 3).astype(int), axis=0).max()) <= _SAME:
            findings.error(own, "is of one color", "Make it again, or leave the prompt out")
        if not synthetic:
            findings.error(
                own,
                "does not say that it is synthetic (PNG text `synthetic`: `true`), so it may be a real one",
                "Take the files that promptopt wrote, unchanged; remove images of patients",
            )
        found.append(picture)
    sizes = {picture.size for picture in found}
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:4])
        findings.warning(
            found[0].own.parent, f"has images of {len(sizes)} sizes ({shown})", "Make all of one size"
        )
    _repeats(found, findings)
    return found


def check_against_real(made: Sequence[Picture], real: Iterable[Path], findings: Findings) -> int:
    """No image is one of a data set's, as a file or by its pixels; near ones are warned of.

    Returns the number of real images that could be read.
    """
    known: dict[str, Path] = {}
    names: list[Path] = []
    rows: list[Pixels] = []
    unread: list[ImageFileError] = []
    for path in real:
        try:
            picture, _, _ = read_picture(path, path)
        except ImageFileError as error:
            unread.append(error)
            continue
        known.setdefault(picture.digest, path)
        names.append(path)
        rows.append(picture.thumbnail)
    if unread:
        findings.warning(
            str(unread[0].file),
            f"{unread[0].problem}; {len(unread)} of the data set's images were not compared for such reasons",
            unread[0].remedy or "",
        )
    if not rows:
        return 0
    for picture in made:
        if picture.digest in known:
            findings.error(
                picture.own,
                f"is the real image {known[picture.digest].name}, of the data set",
                "Remove it: it shows a patient",
            )
    fresh = [picture for picture in made if picture.digest not in known]
    for index, other in _near(_rows(p.thumbnail for p in fresh), _rows(rows)):
        findings.warning(
            fresh[index].own,
            f"looks like the real image {names[other].name}, of the data set",
            "Compare the two; remove it if it is a copy, and look at `promptopt evaluate` for memorization",
        )
    return len(rows)


def _repeats(pictures: Sequence[Picture], findings: Findings) -> None:
    first: dict[str, Path] = {}
    distinct: list[Picture] = []
    for picture in pictures:
        if picture.digest in first:
            findings.error(
                picture.own,
                f"shows the same as {first[picture.digest].name}, pixel by pixel",
                "Make it again with another seed",
            )
        else:
            first[picture.digest] = picture.own
            distinct.append(picture)
    thumbnails = _rows(picture.thumbnail for picture in distinct)
    count = 0
    for index, other in _near(thumbnails, None):
        count += 1
        if count <= _SHOWN:
            findings.warning(
                distinct[index].own,
                f"is hard to tell from {distinct[other].own.name}",
                "Look at the two; make one again with another seed",
            )
    if count > _SHOWN:
        findings.warning(
            distinct[0].own.parent,
            f"has {count - _SHOWN} more images that are hard to tell from another one",
            "`promptopt evaluate` measures how many (duplicates)",
        )


def _rows(thumbnails: Iterable[Pixels]) -> NDArray[np.float32]:
    rows = [row.astype(np.float32) - 128 for row in thumbnails]
    return np.stack(rows) if rows else np.empty((0, 3 * SIDE * SIDE), dtype=np.float32)


def _near(rows: NDArray[np.float32], others: NDArray[np.float32] | None) -> list[tuple[int, int]]:
    """Each row with the nearest of the others (None: an earlier row of its own), where that is near."""
    found = []
    against = rows if others is None else others
    squares = (against**2).sum(axis=1)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        gaps = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ against.T
        if others is None:
            later = np.arange(len(rows)) >= np.arange(start, start + len(block))[:, None]
            gaps[later] = np.inf
        nearest = gaps.argmin(axis=1) if len(against) else np.empty(0, dtype=int)
        for index, other in enumerate(nearest):
            # Exactly: the product of large numbers above has lost some digits.
            gap = float(((block[index] - against[other]) ** 2).mean()) ** 0.5
            if np.isfinite(gaps[index, other]) and gap < NEAR:
                found.append((start + index, int(other)))
    return found
