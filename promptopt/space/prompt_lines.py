"""Lists of prompts: the challenge's CSV, plain text, or JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptopt.base.errors import PromptoptError
from promptopt.base.reading import (
    json_lines,
    numbered_lines,
    read_table,
    read_text,
    shortened,
    visible,
)

_PROMPT = "prompt"
_NEGATIVE = "negative_prompt"
_WEIGHTS = ("weight", "count")  # the challenge's caption list says how often each one comes


class PromptFileError(PromptoptError, ValueError):
    """A list of prompts cannot be read; the message names the file, the line and the remedy."""


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """One prompt of a list.

    Attributes:
        text: the prompt, without spaces around it; never empty.
        number: its place among the prompts, from 1; empty lines do not count.
        line: where it stands in the file, from 1 (in a prompts.json: its rank).
        negative: its own negative prompt; None for that of the whole run.
        weight: its share of a mixture, relative to the others'; 0 or more.
    """

    text: str
    number: int
    line: int
    negative: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file in its order.

    Attributes:
        blank: lines without a prompt, which were left out.
        sampling: of a study: negative prompt, steps, guidance and scheduler that its prompts were found with.
        generator: of a study: fingerprint of the generator that its prompts were found with.
    """

    path: Path
    prompts: tuple[PromptLine, ...]
    blank: tuple[int, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    generator: str | None = None

    def duplicates(self) -> dict[str, list[int]]:
        """Prompts that come more than once, with their lines."""
        lines: dict[str, list[int]] = {}
        for prompt in self.prompts:
            lines.setdefault(prompt.text, []).append(prompt.line)
        return {text: places for text, places in lines.items() if len(places) > 1}


def prompt_lines(texts: Sequence[str]) -> tuple[PromptLine, ...]:
    """A list of prompts that is already in memory; an empty one is refused (PromptFileError)."""
    for place, text in enumerate(texts, start=1):
        if not visible(text).strip():
            raise PromptFileError(f"prompt {place} of {len(texts)} is empty; leave it out")
    return tuple(PromptLine(text=t.strip(), number=n, line=n) for n, t in enumerate(texts, start=1))


def read_prompt_lines(path: str | Path) -> PromptFile:
    """Read a list of prompts; the ending of its name says how.

    - ``.csv``, ``.tsv``: a header with a column ``Prompt`` (``prompt``), fields separated by ``;`` (the
      challenge's own), ``,`` or tabs; further columns may be ``negative_prompt`` and ``weight`` or ``Count``.
    - ``.jsonl``: objects with ``prompt`` and, optionally, ``negative_prompt`` and ``weight``.
    - anything else (``.txt``): one prompt a line.

    Raises:
        PromptFileError: no such file, not UTF-8, no prompt in it, or a line that does not fit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    reader = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_rows}.get(suffix, _plain_rows)
    prompts: list[PromptLine] = []
    blank: list[int] = []
    for line, row in reader(path):
        words = visible(row[_PROMPT]).strip()
        if not words:
            blank.append(line)
            continue
        negative = row.get(_NEGATIVE)
        prompts.append(
            PromptLine(
                text=words,
                number=len(prompts) + 1,
                line=line,
                negative=None if negative is None else negative.strip(),
                weight=checked_weight(row.get("weight"), f"{path}, line {line}"),
            )
        )
    if not prompts:
        raise PromptFileError(f"{path}: holds no prompt; write one a line")
    return PromptFile(path, tuple(prompts), tuple(blank))


def _plain_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(read_text(path, error=PromptFileError)):
        cells = [cell.strip().lower() for cell in line.replace(",", ";").split(";")]
        if number == 1 and cells[0] == _PROMPT:
            raise PromptFileError(
                f"{path}: the first line is the header {line.strip()!r} of a table; name the file .csv"
            )
        yield number, {_PROMPT: line}


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    table = read_table(
        path,
        (_PROMPT,),
        error=PromptFileError,
        any_case=True,
        remedy="Give it a header with a column 'Prompt', separated by ';' (as 'Prompt;Filename'), ',' or a "
        "tab; a list without header is read as .txt, one prompt a line.",
    )
    weight = next((name for name in _WEIGHTS if name in table.columns), None)
    found: list[tuple[int, dict[str, Any]]] = [(line, {_PROMPT: ""}) for line in table.blank]
    for row in table.rows:
        cells: dict[str, Any] = {key: row.cells[key] for key in (_PROMPT, _NEGATIVE) if key in row.cells}
        any_cell = any(cell.strip() for cell in row.cells.values())
        found.append((row.line, {**cells, "weight": row.cells[weight] if weight and any_cell else None}))
    yield from sorted(found, key=lambda one: one[0])


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    last = 0
    for number, value in json_lines(path, error=PromptFileError):
        yield from ((blank, {_PROMPT: ""}) for blank in range(last + 1, number))
        last = number
        place = f"{path}, line {number}"
        if not isinstance(value.get(_PROMPT), str):
            shown = shortened(json.dumps(value, ensure_ascii=False))
            raise PromptFileError(
                f'{place}: {shown!r} has no text under the key \'prompt\'; write {{"prompt": "..."}}'
            )
        if not isinstance(value.get(_NEGATIVE), str | None):
            raise PromptFileError(f"{place}: 'negative_prompt' is {value[_NEGATIVE]!r}; write text")
        yield number, {key: value.get(key) for key in (_PROMPT, _NEGATIVE, "weight")}


def checked_weight(value: object, place: str) -> float:
    """A weight as a number, 1 for none. Raises PromptFileError, naming the place."""
    if value is None:
        return 1.0
    try:
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0) or isinstance(value, bool):
        raise PromptFileError(f"{place}: the weight is {value!r}; write a number, 0 or more")
    return weight
