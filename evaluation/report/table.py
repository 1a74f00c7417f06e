"""What an evaluation gives: rows of Estimates and the card of how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.estimate import Estimate


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        metric: the name that was asked for (``fd``...).
        name: what it is called, with its space (``FD (embedded)``).
        encoder: address of the encoder.
        part: ``all``, or ``key=value`` of the images it rests on.
        better: ``lower`` or ``higher``; empty for a figure that only describes.
        n_real, n_generated: images of the two sets in this part.
        estimate: the number; `undefined` with the reason in its `method` where there is none.
    """

    metric: str
    name: str
    encoder: str
    part: str
    better: str
    n_real: int
    n_generated: int
    estimate: Estimate


@dataclass(frozen=True)
class CopyPair:
    """A generated image and the training image nearest to it, by their files; see `memorization`."""

    generated: str
    training: str
    distance: float
    ratio: float
    p_value: float
    copy: bool


@dataclass(frozen=True)
class Evaluation:
    """The rows, and what stands behind them.

    Attributes:
        rows: the table.
        card: settings, versions, encoders, sets and warnings as plain JSON values.
        copies: every generated image flagged as a copy of a training image, and the closest pairs beside.
        duplicates: files of generated images that repeat each other, the largest cluster first.

    Example:
        >>> from evaluation.estimate import Estimate
        >>> fd = Estimate(1.5, 1.0, 2.0, 8, "FD", "ok")
        >>> row = Row("fd", "FD (embedded)", "embedded", "all", "lower", 8, 8, fd)
        >>> table = Evaluation((row,), {})
        >>> Evaluation.from_json(table.to_json()) == table
        True
    """

    rows: tuple[Row, ...]
    card: Mapping[str, Any]
    copies: tuple[CopyPair, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()

    def to_json(self) -> str:
        """Rows and card as one JSON document; the same input gives the same text."""
        document = {
            "card": self.card,
            "rows": [asdict(row) for row in self.rows],
            "copies": [asdict(pair) for pair in self.copies],
            "duplicates": self.duplicates,
        }
        return json.dumps(document, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote."""
        document = json.loads(text)
        rows = [Row(**{**row, "estimate": Estimate.from_json(row["estimate"])}) for row in document["rows"]]
        copies = tuple(CopyPair(**pair) for pair in document.get("copies", ()))
        duplicates = tuple(tuple(cluster) for cluster in document.get("duplicates", ()))
        return cls(tuple(rows), document["card"], copies, duplicates)

    def card_markdown(self) -> str:
        """The card for people."""
        lines = ["# Metric card", ""]
        for heading, content in self.card.items():
            lines += [f"## {heading}", ""]
            if isinstance(content, Mapping):
                lines += [f"- {key}: {_shown(value)}" for key, value in content.items()]
            elif isinstance(content, list):
                lines += [f"- {_shown(item)}" for item in content] or ["- none"]
            else:
                lines.append(_shown(content))
            lines.append("")
        return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
