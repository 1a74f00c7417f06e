"""Generated images beside the training images nearest to them, to be judged by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.metrics.memorisation import Pair

_TEXT = 34


def pairs_sheet(
    pairs: Sequence[Pair],
    generated: Sequence[Path | Image.Image],
    training: Sequence[Path | Image.Image],
    *,
    columns: int = 4,
    tile: int = 160,
) -> Image.Image:
    """A picture of the pairs, left the generated image, right its nearest training image.

    Each pair is labelled with its rows, ratio and p-value; those flagged as copies have a red frame. Images
    are fitted into a square, not cut.

    Args:
        pairs: `Memorisation.closest`, or any of its pairs.
        generated, training: files or images, in the order of the features that gave the pairs.
        columns: pairs in a row.
        tile: side of an image in pixels.

    Raises:
        ValueError: no pair, a pair whose image is not there, or sizes below 1 (tile: 32).
    """
    from PIL import Image, ImageDraw, ImageFont

    if not pairs:
        raise ValueError("there is no pair to draw; ask memorisation for one or more")
    if columns < 1 or tile < 32:
        raise ValueError(f"columns is {columns} and tile {tile}; expected 1 or more, and 32 or more")
    for pair in pairs:
        if not (0 <= pair.generated < len(generated) and 0 <= pair.training < len(training)):
            raise ValueError(
                f"a pair names generated image {pair.generated} and training image {pair.training}; "
                f"{len(generated)} and {len(training)} images were given: give all, in the features' order"
            )
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    wide, high = 2 * tile + 16, tile + _TEXT + 10
    sheet = Image.new("RGB", (columns * wide, rows * high), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, pair in enumerate(pairs):
        left, top = number % columns * wide + 6, number // columns * high + 4
        for x, source in ((left, generated[pair.generated]), (left + tile + 4, training[pair.training])):
            picture = _fitted(source, tile)
            sheet.paste(picture, (x + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
        if pair.copy:
            draw.rectangle((left - 2, top - 2, left + 2 * tile + 5, top + tile + 1), outline="red", width=2)
        label = f"generated {pair.generated}   training {pair.training}\n" + (
            f"{'COPY  ' if pair.copy else ''}ratio {pair.ratio:.3f}  p {pair.p_value:.3f}"
        )
        draw.multiline_text((left, top + tile + 4), label, fill="red" if pair.copy else "black", font=font)
    return sheet


def _fitted(source: Path | Image.Image, tile: int) -> Image.Image:
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        return ImageOps.contain(source.convert("RGB"), (tile, tile))
    try:
        with Image.open(source) as image:
            return ImageOps.contain(image.convert("RGB"), (tile, tile))
    # Pillow reports broken files as OSError, SyntaxError (PNG chunks) or ValueError, according to the format
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{source}: not a readable image ({error}); replace it") from error
