"""Contact sheets, with Pillow alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.files import new_file

if TYPE_CHECKING:
    from PIL import Image

_MARGIN = 6
_LABEL = 14
_TITLE = 20


@dataclass(frozen=True)
class Tile:
    """One picture and the short text under it."""

    image: "Image.Image"
    label: str


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tile]]],
    out: Path,
    *,
    tile: int = 128,
    columns: int = 10,
    label_lines: int = 1,
) -> Path:
    """Write a PNG with a titled block of tiles for each row, at most `columns` tiles side by side.

    Pictures keep their shape; those smaller than `tile` are enlarged without smoothing, to show their own
    pixels. Labels are broken into up to `label_lines` lines; a block
    whose labels are empty has no room for them. Raises OSError where `out` cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    width = max(min(max((len(tiles) for _, tiles in rows), default=1), columns), 2)
    lines = [-(-len(tiles) // columns) for _, tiles in rows]
    cells = [
        tile + _MARGIN + (label_lines * _LABEL if any(shown.label for shown in tiles) else 0)
        for _, tiles in rows
    ]
    sheet = Image.new(
        "RGB",
        (
            _MARGIN + width * (tile + _MARGIN),
            _MARGIN + sum(_TITLE + n * cell for n, cell in zip(lines, cells, strict=True)),
        ),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    top = _MARGIN
    for (title, tiles), count, cell in zip(rows, lines, cells, strict=True):
        draw.text((_MARGIN, top), _fit(draw, title, font, sheet.width - 2 * _MARGIN), fill="black", font=font)
        top += _TITLE
        for index, shown in enumerate(tiles):
            left = _MARGIN + index % columns * (tile + _MARGIN)
            line = top + index // columns * cell
            scale = tile / max(shown.image.size)
            size = tuple(max(1, round(side * scale)) for side in shown.image.size)
            how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
            sheet.paste(shown.image.convert("RGB").resize((size[0], size[1]), how), (left, line))
            for number, text in enumerate(_broken(draw, shown.label, font, tile, label_lines)):
                draw.text((left, line + tile + 1 + number * _LABEL), text, fill="black", font=font)
        top += count * cell
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_file(out) as partial:
        sheet.save(partial, format="PNG")
    return out


def _fit(draw: object, text: str, font: object, width: int) -> str:
    """The text, shortened with an ellipsis to `width` pixels."""
    if draw.textlength(text, font=font) <= width:  # type: ignore[attr-defined]
        return text
    while text and draw.textlength(text + "…", font=font) > width:  # type: ignore[attr-defined]
        text = text[:-1]
    return text + "…"


def _broken(draw: object, text: str, font: object, width: int, lines: int) -> list[str]:
    """The text in at most `lines` lines, broken between words, the last one shortened."""
    broken: list[str] = []
    words = text.split(" ")
    while words and len(broken) < lines - 1:
        count = 1
        while count < len(words) and draw.textlength(" ".join(words[: count + 1]), font=font) <= width:  # type: ignore[attr-defined]
            count += 1
        broken.append(_fit(draw, " ".join(words[:count]), font, width))
        words = words[count:]
    return [*broken, _fit(draw, " ".join(words), font, width)] if words else broken
