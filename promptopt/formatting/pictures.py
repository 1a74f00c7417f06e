"""Several images as one picture: grids, and contact sheets with titles and labels."""

from __future__ import annotations

import io
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.errors import ArgumentError
from promptopt.base.files import write_bytes
from promptopt.base.reading import one_line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_GAP = 6  # pixels between pictures
_LABEL, _TITLE = 14, 20  # heights of lines
_LONGEST = 500  # characters of a text that are looked at


@dataclass(frozen=True)
class Tile:
    """One picture and the short text under it; `framed` in red."""

    image: Image.Image
    label: str
    framed: bool = False


def image_grid(
    images: Sequence[Image.Image], *, tile: int = 192, columns: int | None = None, background: str = "white"
) -> Image.Image:
    """The images in rows, as near to a square as they go, or in `columns`.

    Each keeps its shape and fills a tile of `tile` x `tile` pixels; all are scaled in the same way (Lanczos).

    Raises:
        ValueError: no image, or a tile or number of columns below 1.
    """
    from PIL import Image, ImageOps

    if not images or tile < 1 or (columns is not None and columns < 1):
        raise ArgumentError(f"{len(images)} images, tile {tile}, columns {columns}; each must be at least 1")
    across = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    down = math.ceil(len(images) / across)
    step = tile + _GAP
    grid = Image.new("RGB", (across * step - _GAP, down * step - _GAP), background)
    for index, image in enumerate(images):
        shown = ImageOps.pad(image.convert("RGB"), (tile, tile), Image.Resampling.LANCZOS, background)
        grid.paste(shown, (index % across * step, index // across * step))
    return grid


def draw_sheet(
    rows: Sequence[tuple[str, Sequence[Tile]]], *, tile: int = 128, columns: int = 10, label_lines: int = 1
) -> Image.Image:
    """A titled block of tiles for each row, at most `columns` tiles side by side.

    Pictures keep their shape, with `tile` pixels at their longer side; those smaller are enlarged without
    smoothing, to show their own pixels. Labels are broken into up to `label_lines` lines; a block whose
    labels are empty has no room for them, and one without tiles is a line of text.

    Raises:
        ValueError: a tile or number of columns below 1.
    """
    from PIL import Image, ImageDraw, ImageOps

    if tile < 1 or columns < 1:
        raise ArgumentError(f"tile {tile}, columns {columns}; each must be at least 1")
    across = max(min(max((len(tiles) for _, tiles in rows), default=1), columns), 2)
    blocks = []
    for title, tiles in rows:
        shown = []
        for one in tiles:
            how = Image.Resampling.NEAREST if tile >= max(one.image.size) else Image.Resampling.LANCZOS
            shown.append(ImageOps.contain(one.image.convert("RGB"), (tile, tile), how))
        text = label_lines * _LABEL if any(one.label for one in tiles) else 0
        high = max((picture.height for picture in shown), default=0)
        blocks.append((title, list(zip(tiles, shown, strict=True)), high, high + _GAP + text))
    height = sum(_TITLE + math.ceil(len(tiles) / columns) * cell for _, tiles, _, cell in blocks)
    sheet = Image.new("RGB", (_GAP + across * (tile + _GAP), _GAP + height), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for title, tiles_, high, cell in blocks:
        _write(draw, (_GAP, top), _fit(draw, title, sheet.width - 2 * _GAP))
        top += _TITLE
        for index, (one, picture) in enumerate(tiles_):
            left, line = _GAP + index % columns * (tile + _GAP), top + index // columns * cell
            sheet.paste(picture, (left, line))
            color = "red" if one.framed else "black"
            if one.framed:
                corner = (left + picture.width + 1, line + picture.height + 1)
                draw.rectangle(((left - 2, line - 2), corner), outline="red", width=2)
            for number, text_ in enumerate(_broken(draw, one.label, tile, label_lines)):
                _write(draw, (left, line + high + 1 + number * _LABEL), text_, color)
        top += math.ceil(len(tiles_) / columns) * cell
    return sheet


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tile]]],
    out: Path,
    *,
    tile: int = 128,
    columns: int = 10,
    label_lines: int = 1,
) -> Path:
    """Write `draw_sheet` as a PNG. Raises OSError where `out` cannot be written."""
    return save_png(draw_sheet(rows, tile=tile, columns=columns, label_lines=label_lines), out)


def png_bytes(image: Image.Image, *, compress_level: int = 1) -> bytes:
    """The image as a PNG that holds pixels and nothing else."""
    from PIL import Image

    bare = Image.new(image.mode, image.size)
    bare.paste(image)
    stream = io.BytesIO()
    bare.save(stream, format="PNG", compress_level=compress_level)
    return stream.getvalue()


def save_png(image: Image.Image, path: Path) -> Path:
    """Write `png_bytes`; whole or not at all. Its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bytes(path, png_bytes(image))


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, color: str = "black") -> None:
    draw.text(place, text, fill=color, font_size=11)


def _fit(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text on one line, shortened with an ellipsis to `width` pixels; names of files differ there."""
    text = one_line(text)[:_LONGEST]

    def shown(kept: int) -> str:
        if kept == len(text):
            return text
        start = kept if " " in text else kept // 2
        return f"{text[:start]}…{text[len(text) - kept + start :]}"

    def too_wide(kept: int) -> bool:
        return draw.textlength(shown(kept), font_size=11) > width

    if not too_wide(len(text)):
        return text
    return shown(max(bisect_left(range(len(text)), True, key=too_wide) - 1, 0))


def _broken(draw: ImageDraw.ImageDraw, text: str, width: int, lines: int) -> list[str]:
    """The text in at most `lines` lines, broken between words, the last one shortened."""
    broken: list[str] = []
    for line in text[:_LONGEST].splitlines():
        words = line.split(" ")
        while words:
            count = 1
            while count < len(words) and draw.textlength(" ".join(words[: count + 1]), font_size=11) <= width:
                count += 1
            broken.append(" ".join(words[:count]))
            words = words[count:]
    last = [" ".join(broken[lines - 1 :])] if len(broken) >= lines else []
    return [_fit(draw, line, width) for line in (*broken[: lines - 1], *last)]
