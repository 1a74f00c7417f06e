"""Lists of prompts: the challenge's CSV, plain text, or JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptopt.base.errors import PromptoptError

_SHOWN = 80
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
        if not text.strip():
            raise PromptFileError(f"prompt {place} of {len(texts)} is empty; leave it out")
    return tuple(PromptLine(text=t.strip(), number=n, line=n) for n, t in enumerate(texts, start=1))


def read_prompt_lines(path: str | Path) -> PromptFile:
    """Read a list of prompts; the ending of its name says how.

    - ``.csv``: a header with a column ``Prompt`` (``prompt``), fields separated by ``;`` (the challenge's
      own) or ``,``; further columns may be ``negative_prompt`` and ``weight`` or ``Count``.
    - ``.jsonl``: objects with ``prompt`` and, optionally, ``negative_prompt`` and ``weight``.
    - anything else (``.txt``): one prompt a line.

    Raises:
        PromptFileError: no such file, not UTF-8, no prompt in it, or a line that does not fit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    text = _text(path)
    reader = {".csv": _csv_rows, ".jsonl": _json_rows}.get(suffix, _plain_rows)
    prompts: list[PromptLine] = []
    blank: list[int] = []
    for line, row in reader(path, text):
        words = row[_PROMPT].strip()
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


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PromptFileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise PromptFileError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None


def _plain_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        cells = [cell.strip().lower() for cell in line.replace(",", ";").split(";")]
        if number == 1 and cells[0] == _PROMPT:
            raise PromptFileError(
                f"{path}: the first line is the header {line.strip()!r} of a table; name the file .csv"
            )
        yield number, {_PROMPT: line}


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    header = text.split("\n", 1)[0].strip()
    separator = next((s for s in ";," if _PROMPT in _names(header, s)), None)
    if separator is None:
        raise PromptFileError(
            f"{path}: the first line is {_short(header)!r}; expected a header with a column 'Prompt', "
            "separated by ';' (as 'Prompt;Filename') or ','; a list without header is read as .txt, one "
            "prompt a line"
        )
    names = _names(header, separator)
    if names.count(_PROMPT) > 1:
        raise PromptFileError(
            f"{path}: the header {_short(header)!r} has the column 'Prompt' twice; keep one"
        )
    weight = next((name for name in _WEIGHTS if name in names), None)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        next(reader)
        for row in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in row):
                yield line, {_PROMPT: ""}
                continue
            if len(row) != len(names):
                other = "," if separator == ";" else ";"
                raise PromptFileError(
                    f"{path}, line {line}: {len(row)} fields where the header {_short(header)!r} has "
                    f"{len(names)}, separated by {separator!r}: {_short(separator.join(row))!r}; put a "
                    f"prompt that holds {separator!r} in quotation marks, or separate the whole file "
                    f"by {other!r}"
                )
            cells = dict(zip(names, row, strict=True))
            found = {_PROMPT: cells[_PROMPT], "weight": cells[weight] if weight else None}
            yield line, found | ({_NEGATIVE: cells[_NEGATIVE]} if _NEGATIVE in cells else {})
    except csv.Error as error:
        raise PromptFileError(
            f"{path}, line {reader.line_num}: not CSV ({error}); check its quotation marks"
        ) from error


def _names(header: str, separator: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"{path}, line {number}"
        if not line.strip():
            if number <= text.count("\n"):  # the end of the last line begins no other
                yield number, {_PROMPT: ""}
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise PromptFileError(f"{place}: not JSON ({error.msg}); write one object a line") from None
        if not isinstance(value, dict) or not isinstance(value.get(_PROMPT), str):
            raise PromptFileError(
                f'{place}: {_short(line)!r} has no text under the key \'prompt\'; write {{"prompt": "..."}}'
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


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
