"""Tables as CSV: plain columns, then every part of the estimates; no cell that a spreadsheet computes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from promptopt.formatting.escapes import csv_text
from promptopt.formatting.numbers import AnyEstimate

PARTS = ("value", "low", "high", "n", "method", "status")


def csv_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    estimates: Sequence[Mapping[str, AnyEstimate | None]] = (),
    *,
    exact: bool = False,
) -> str:
    """A header and one line a row, in CSV; what has no value is an empty cell.

    Args:
        heads: names of the plain columns.
        rows: their cells; text that could be a formula is escaped (`escapes.csv_text`).
        estimates: for each row its estimates by name, six columns each, called ``name:value`` and so on, or
            ``value`` and so on where the name is empty.
        exact: all digits of the numbers, not six.

    Raises ValueError where `estimates` is given and differs from `rows` in length.

    >>> from evaluation.estimate import Estimate
    >>> print(csv_table(["prompt"], [["=1+1"]], [{"fd": Estimate(2.0, 1.0, 3.0, 8, "mean", "ok")}]), end="")
    prompt,fd:value,fd:low,fd:high,fd:n,fd:method,fd:status
    '=1+1,2,1,3,8,mean,ok
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in estimates for name in row))
    columns = (f"{name}:{part}" if name else part for name in names for part in PARTS)
    lines = [_line([csv_text(head) for head in (*heads, *columns)])]
    for row, own in zip(rows, estimates or [{}] * len(rows), strict=True):
        found = [(own.get(name), part) for name in names for part in PARTS]
        parts = [None if estimate is None else getattr(estimate, part) for estimate, part in found]
        lines.append(_line([_cell(cell, exact) for cell in (*row, *parts)]))
    return "".join(lines)


def _line(cells: Sequence[object]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerow(cells)  # with another line end, it would not quote a lone carriage return
    return stream.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: object, exact: bool) -> object:
    if value is None:
        return ""
    if isinstance(value, float) and not exact:
        return f"{value:.6g}"
    return csv_text(value) if isinstance(value, str) else value
