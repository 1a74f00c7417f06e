"""manifest.csv: every image of a synthesis with its request; no cell that a spreadsheet computes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from promptopt.base.naming import without_home
from promptopt.formatting.escapes import csv_original, csv_text

if TYPE_CHECKING:
    from generators.request import ImageRequest
    from generators.store import StoredImage

COLUMNS = (
    "file",
    "prompt_number",
    "image_number",
    "prompt",
    "negative_prompt",
    "seed",
    "generator",
    "fingerprint",
    "steps",
    "guidance",
    "scheduler",
    "width",
    "height",
    "sha256",
)


class ManifestWriter:
    """Writes the header, then rows; text that could be a formula is escaped.

    Args:
        stream: opened with ``newline=""``.
    """

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def write(self, cells: Sequence[object] | Mapping[str, object]) -> None:
        """One row, in the order of `COLUMNS` or by their names."""
        own = [cells[name] for name in COLUMNS] if isinstance(cells, Mapping) else cells
        self._writer.writerow([csv_text(cell) if isinstance(cell, str) else cell for cell in own])


def manifest_row(
    name: str, number: int, index: int, image: StoredImage, *, request: ImageRequest, uri: str
) -> list[object]:
    """The cells of `COLUMNS`: image `index` of prompt `number`, which a generator made for a request."""
    drawn = [request.steps, request.guidance, request.scheduler, request.width, request.height]
    said = [request.prompt, request.negative_prompt, request.seed]
    return [name, number, index, *said, without_home(uri), request.generator, *drawn, image.sha256]


def manifest_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows as they were before they were escaped.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: it cannot be read.
        ValueError: other columns, or a row that is cut.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        reader: Any = csv.reader(stream, strict=True)
        if tuple(next(reader, ())) != COLUMNS:
            raise ValueError("its columns are others")
        for row in reader:
            if len(row) != len(COLUMNS):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, not {len(COLUMNS)}")
            yield dict(zip(COLUMNS, map(csv_original, row), strict=True))
