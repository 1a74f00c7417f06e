"""Pictures of copies, to be judged by eye: beside the nearest training images, or beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.base.errors import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.metrics.memorization import Pair
    from evaluation.report.table import CopyPair

MOST_PAIRS, MOST_CLUSTERS, MOST_TILES = 48, 16, 8
"""What a sheet shows at most; the rest is named in its heading."""

_LINE = 17
_SIZE = 13


@dataclass(frozen=True)
class _Block:
    """Images side by side, lines of text under them, and whether they are framed as copies."""

    images: Sequence[Path | Image.Image]
    lines: Sequence[str]
    framed: bool


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
    blocks = [
        _Block(
            (generated[pair.generated], training[pair.training]),
            (f"generated {pair.generated}   training {pair.training}", _ratio(pair)),
            pair.copy,
        )
        for pair in pairs
    ]
    return _sheet(blocks, [], columns=columns, tile=tile)


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
    blocks = [
        _Block(
            (Path(pair.generated), Path(pair.training)),
            (
                f"generated   {_name(pair.generated)}",
                f"training   {_name(pair.training)}",
                _ratio(pair),
            ),
            pair.copy,
        )
        for pair in pairs[:MOST_PAIRS]
    ]
    return _sheet(blocks, heading, columns=columns, tile=tile)


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
    blocks = []
    for files in clusters[:MOST_CLUSTERS]:
        more = "" if len(files) <= MOST_TILES else f" (the first {MOST_TILES} shown)"
        names = ",  ".join(_name(file) for file in files[:MOST_TILES])
        line = f"{len(files)} images{more}:  {names}"
        blocks.append(_Block([Path(file) for file in files[:MOST_TILES]], (line,), False))
    return _sheet(blocks, heading, columns=1, tile=tile)


def _name(file: str) -> str:
    """The file with its folder, which often is its category."""
    return "/".join(Path(file).parts[-2:])


def _ratio(pair: Pair | CopyPair) -> str:
    return f"{'COPY   ' if pair.copy else ''}ratio {pair.ratio:.3f}   p {pair.p_value:.3f}"


def _sheet(blocks: Sequence[_Block], heading: Sequence[str], *, columns: int, tile: int) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    if columns < 1 or tile < 32:
        raise ArgumentError(f"columns is {columns} and tile {tile}; expected 1 or more, and 32 or more")
    font, columns = ImageFont.load_default(size=_SIZE), min(columns, len(blocks))
    wide = max(len(block.images) for block in blocks) * (tile + 4) + 8
    high = tile + 14 + _LINE * max(len(block.lines) for block in blocks)
    top_of_all = _LINE * len(heading) + 12 if heading else 0
    across = max([columns * wide, *(round(font.getlength(line)) + 12 for line in heading)])
    sheet = Image.new("RGB", (across, top_of_all + -(-len(blocks) // columns) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(heading):
        draw.text((6, 4 + number * _LINE), line, fill="black", font=font)
    for number, block in enumerate(blocks):
        left, top = number % columns * wide + 6, top_of_all + number // columns * high + 4
        for place, source in enumerate(block.images):
            x, picture = left + place * (tile + 4), _fitted(source, tile)
            sheet.paste(picture, (x + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
        if block.framed:
            end = left + len(block.images) * (tile + 4) - 3
            draw.rectangle((left - 2, top - 2, end, top + tile + 1), outline="red", width=2)
        for place, line in enumerate(block.lines):
            where, color = (left, top + tile + 4 + place * _LINE), "red" if block.framed else "black"
            draw.text(where, _cut(line, font, wide - 12), fill=color, font=font)
    return sheet


def _cut(line: str, font: Any, width: int) -> str:
    """The line, its middle left out where it is too long: names of files differ at their ends."""
    full, short = font.getlength(line), line
    keep = min(len(line), round(len(line) * width / full)) if full else 0
    while font.getlength(short) > width and keep > 4:
        keep -= 1
        short = f"{line[: keep // 2]}...{line[-(keep - keep // 2) :]}"
    return short


def _fitted(source: Path | Image.Image, tile: int) -> Image.Image:
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        return ImageOps.contain(source.convert("RGB"), (tile, tile))
    try:
        with Image.open(source) as image:
            return ImageOps.contain(image.convert("RGB"), (tile, tile))
    # Pillow reports broken files as OSError, SyntaxError (PNG chunks) or ValueError, according to the format
    except (OSError, SyntaxError, ValueError) as error:
        raise ArgumentError(f"{source}: not a readable image ({error}); replace it") from error
