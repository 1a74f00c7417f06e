"""Tables of a study of sets, as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptopt.base.files import write_text
from promptopt.formatting.tables import csv_table
from promptopt.run.prompt_sets import SetList
from promptopt.run.prompts import EstimateEntry

_PARTS = ("value", "low", "high", "n", "status")


def write_set_tables(folder: Path, sets: SetList) -> list[Path]:
    """sets.csv (every prompt of every set), comparisons.csv and sizes.csv."""
    prompts = [
        [c.label, place + 1, p.weight, p.prompt, p.negative_prompt or "", p.images, p.adds]
        for c in sets.classes
        for place, p in enumerate(c.set.prompts)
    ]
    pairs = [("all classes", one) for one in sets.comparisons]
    pairs += [(c.label, one) for c in sets.classes for one in c.comparisons]
    return [
        _write(
            folder / "sets.csv",
            ["class", "rank", "weight", "prompt", "negative_prompt", "images", "adds"],
            prompts,
        ),
        _write(
            folder / "comparisons.csv",
            ["class", "metric", "first", "second", *_PARTS, "p", "p_holm", "verdict"],
            [
                [
                    label,
                    o.metric,
                    o.first,
                    o.second,
                    *_cells(o.difference),
                    o.p_value,
                    o.p_adjusted,
                    o.verdict,
                ]
                for label, o in pairs
            ],
        ),
        _write(
            folder / "sizes.csv",
            ["class", "prompts", "fitted", *_PARTS],
            [[c.label, s.prompts, s.fitted, *_cells(s.held_out)] for c in sets.classes for s in c.sizes],
        ),
    ]


def _cells(estimate: EstimateEntry) -> list[Any]:
    return [getattr(estimate, part) for part in _PARTS]


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    return write_text(path, csv_table(header, rows, exact=True))
