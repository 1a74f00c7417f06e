"""Pictures of copies, to be judged by eye: beside the nearest training images, or beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.errors import ArgumentError
from promptopt.formatting.pictures import Tile, draw_sheet, image_grid

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.metrics.memorization import Pair
    from evaluation.report.table import CopyPair

MOST_PAIRS, MOST_CLUSTERS, MOST_TILES = 48, 16, 8
"""What a sheet shows at most; the rest is named in its heading."""


def pairs_sheet(
    pairs: Sequence[Pair],
    generated: Sequence[Path | Image.Image],
    training: Sequence[Path | Image.Image],
    *,
    columns: int = 4,
    tile: int = 160,
) -> Image.Image:
    """A picture of the pairs, left the generated image, right its nearest training image.

    Each pair is labeled with its rows, ratio and p-value; those flagged as copies have a red frame. Images
    are fitted into a square, not cut.

    Args:
        pairs: `Memorization.closest`, or any of its pairs.
        generated, training: files or images, in the order of the features that gave the pairs.
        columns: pairs in a row.
        tile: side of an image in pixels.

    Raises:
        ValueError: no pair, a pair whose image is not there, or sizes below 1 (tile: 32).
    """
    if not pairs:
        raise ArgumentError("there is no pair to draw; ask memorization for one or more")
    for pair in pairs:
        if not (0 <= pair.generated < len(generated) and 0 <= pair.training < len(training)):
            raise ArgumentError(
                f"a pair names generated image {pair.generated} and training image {pair.training}; "
                f"{len(generated)} and {len(training)} images were given: give all, in the features' order"
            )
    tiles = [
        Tile(
            _beside(generated[pair.generated], training[pair.training], tile),
            f"generated {pair.generated}   training {pair.training}\n{_ratio(pair)}",
            pair.copy,
        )
        for pair in pairs
    ]
    return draw_sheet([("", tiles)], tile=tiles[0].image.width, columns=columns, label_lines=2)


def copies_sheet(pairs: Sequence[CopyPair], *, columns: int = 3, tile: int = 192) -> Image.Image:
    """A picture of the pairs of an evaluation, under a heading that says how to read it.

    Raises:
        ValueError: no pair, an image that cannot be read, or sizes as for `pairs_sheet`.
    """
    if not pairs:
        raise ArgumentError("there is no pair to draw; evaluate with the metric memorization")
    copies = sum(pair.copy for pair in pairs)
    heading = [
        "Generated images (left) and the training image nearest to each (right), the nearest pair first.",
        "Ratio: distance to it over distance to the nearest real image that was never trained on.",
        f"Flagged as copies: {copies} (red frame); a copy may be mirrored or cropped. The others are the "
        "closest pairs that are not flagged."
        if copies
        else "No image is flagged as a copy; these are the closest pairs.",
    ]
    if len(pairs) > MOST_PAIRS:
        heading.append(f"{len(pairs) - MOST_PAIRS} more pairs stand in evaluation.json.")
    tiles = [
        Tile(
            _beside(Path(pair.generated), Path(pair.training), tile),
            f"{_name(pair.generated)}\n{_name(pair.training)}\n{_ratio(pair)}",
            pair.copy,
        )
        for pair in pairs[:MOST_PAIRS]
    ]
    rows = [*((line, ()) for line in heading[:-1]), (heading[-1], tiles)]
    return draw_sheet(rows, tile=tiles[0].image.width, columns=columns, label_lines=3)


def clusters_sheet(clusters: Sequence[Sequence[str]], *, tile: int = 144) -> Image.Image:
    """A picture of generated images that repeat each other, a cluster a row.

    Raises:
        ValueError: no cluster, or an image that cannot be read.
    """
    if not clusters:
        raise ArgumentError("there is no cluster to draw; no image repeats another one")
    many = sum(len(files) for files in clusters)
    heading = [
        f"Generated images that repeat each other: {many} images in {len(clusters)} clusters, one a row.",
        "Near-duplicates are nearer to each other than real images of different scenes are, but for chance.",
    ]
    if len(clusters) > MOST_CLUSTERS:
        heading.append(f"{len(clusters) - MOST_CLUSTERS} more clusters stand in evaluation.json.")
    rows: list[tuple[str, Sequence[Tile]]] = [(line, ()) for line in heading]
    for files in clusters[:MOST_CLUSTERS]:
        more = "" if len(files) <= MOST_TILES else f" (the first {MOST_TILES} shown)"
        names = ",  ".join(_name(file) for file in files[:MOST_TILES])
        line = f"{len(files)} images{more}:  {names}"
        rows.append((line, [Tile(_opened(Path(file)), "") for file in files[:MOST_TILES]]))
    return draw_sheet(rows, tile=tile, columns=MOST_TILES)


def _name(file: str) -> str:
    """The file with its folder, which often is its category."""
    return "/".join(Path(file).parts[-2:])


def _ratio(pair: Pair | CopyPair) -> str:
    return f"{'COPY   ' if pair.copy else ''}ratio {pair.ratio:.3f}   p {pair.p_value:.3f}"


def _beside(generated: Path | Image.Image, training: Path | Image.Image, tile: int) -> Image.Image:
    if tile < 32:
        raise ArgumentError(f"tile is {tile}; expected 32 or more")
    return image_grid([_opened(generated), _opened(training)], columns=2, tile=tile)


def _opened(source: Path | Image.Image) -> Image.Image:
    from promptopt.base.images import read_image

    return read_image(source) if isinstance(source, str | Path) else source
