"""Tables and lists of text that people wrote: CSV, JSON lines and plain text, read whole or refused by line.

Nothing is guessed: a file that is not UTF-8 is refused with the encoding it seems to have, and a row whose
quotation marks or fields do not add up is refused, never glued to the next one or cut.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.base.errors import PromptoptError
from promptopt.base.files import SUFFIXES, FileError

_SHOWN = 80
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SAVE = "Save the file as UTF-8 (in Excel: 'CSV UTF-8')."
_LINE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n])|[^\r\n]+")
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
_NOT_PRINTABLE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colors, cursor, erasing
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)?"  # OSC: title, clipboard
    "|[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_PICTURE = re.compile(rf"[^\s\"][^\"]*({'|'.join(map(re.escape, SUFFIXES))}|\.gif)", re.IGNORECASE)


@dataclass(frozen=True)
class TableRow:
    """A row of a table: the line it begins at, from 1, and its cells by column, as they stand."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file. `blank` are its lines without anything; every other line is in one of the `rows`."""

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    blank: tuple[int, ...]
    delimiter: str


def read_text(path: str | Path, *, error: type[PromptoptError] = FileError, remedy: str | None = None) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; line ends stay as they are.

    Args:
        path: the file.
        error: the class to raise.
        remedy: what to do where there is no such file.

    Raises:
        FileError: (or `error`) it cannot be read, is not UTF-8 (UTF-16 and Windows-1252 are named), or holds
            a NUL character; with the line.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as fault:
        raise error("no such file", file=path, remedy=remedy) from fault
    except OSError as fault:
        raise error(
            f"cannot be read ({fault.strerror or fault})",
            file=path,
            remedy="Check the file and its permissions.",
        ) from fault
    for mark, name in _MARKS:
        if content.startswith(mark):
            raise error(f"not UTF-8 at byte 0: it is {name}", file=path, remedy=_SAVE)
    if content.count(0) * 5 > len(content):
        raise error("not UTF-8: it seems to be UTF-16 without a byte order mark", file=path, remedy=_SAVE)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        at = fault.start + (3 if content.startswith(codecs.BOM_UTF8) else 0)
        shown = content[at : at + 1].decode("cp1252", errors="replace")
        raise error(
            f"not UTF-8 at byte {at} (0x{content[at]:02X}; in Windows-1252 it would be {shown!r})",
            file=path,
            line=len(_LINE.findall(content[: at + 1].decode("latin-1"))),
            remedy=_SAVE,
        ) from None
    if "\0" in text:
        line = len(_LINE.findall(text[: text.index("\0") + 1]))
        raise error("holds a NUL character", file=path, line=line, remedy="Remove it; text has none.")
    return text


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1, without their ends: LF, CR LF or CR, and no other character.

    >>> list(numbered_lines("a\\u2028b\\rc\\n"))
    [(1, 'a\\u2028b'), (2, 'c')]
    """
    for number, line in enumerate(_LINE.findall(text), start=1):
        yield number, line.rstrip("\r\n")


def visible(text: str) -> str:
    """The text without zero-width spaces, word joiners and byte order marks, which nobody sees."""
    return _INVISIBLE.sub("", text)


def one_line(text: str) -> str:
    """The text on one line, to show it: line breaks as "⏎", other control characters as spaces.

    >>> one_line("a polyp,\\nred\\n")
    'a polyp, ⏎ red'
    """
    if not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text):
        return text
    shown = " ⏎ ".join(part.strip() for part in text.splitlines() if part.strip())
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in shown)


def printable(text: str) -> str:
    """The text as a terminal may have it: escape sequences, other control characters but tab and line feed,
    marks that turn the direction of writing, and halves of surrogate pairs are left out.

    >>> printable("a \\x1b[2Jpolyp\\x07\\n")
    'a polyp\\n'
    """
    return _NOT_PRINTABLE.sub("", text)


def json_lines(
    path: str | Path, *, error: type[PromptoptError] = FileError, remedy: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines with their line numbers; empty lines are passed over.

    Raises:
        FileError: (or `error`) as `read_text` does, or a line that is no JSON object, has a key twice, NaN or
            infinity, or half a surrogate pair.
    """
    for number, line in numbered_lines(read_text(path, error=error, remedy=remedy)):
        if visible(line).strip():
            yield number, _json_object(line, path, number, error)


def json_object(
    path: str | Path, *, error: type[PromptoptError] = FileError, remedy: str | None = None
) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        FileError: (or `error`) it cannot be read, is not JSON, or holds something else.
    """
    text = read_text(path, error=error, remedy=remedy)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise error(f"is not JSON ({fault})", file=path, remedy=remedy) from None
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise error(f"holds {kind}, not an object of keys", file=path, remedy=remedy)
    return content


def _json_object(line: str, path: str | Path, number: int, error: type[PromptoptError]) -> dict[str, Any]:
    def refuse(problem: str, remedy: str = "Write one JSON object a line.") -> PromptoptError:
        return error(problem, file=path, line=number, remedy=remedy)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise refuse(f"key {twice!r} comes twice", "Keep one of them.")
        return value

    def constant(name: str) -> None:
        raise refuse(f"{name} is not a JSON value", "Write a number or null.")

    try:
        value = json.loads(line, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as fault:
        raise error(
            f"{path}, line {number}, column {fault.colno}: not JSON ({fault.msg})",
            remedy="Write one JSON object a line.",
        ) from None
    except RecursionError:
        raise refuse("nested too deeply") from None
    except ValueError as fault:
        if isinstance(fault, PromptoptError):
            raise
        raise refuse(f"not JSON ({fault})") from None
    if not isinstance(value, dict):
        raise refuse(f"got {shortened(line.strip())!r}")
    if "\\u" in line:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise refuse("holds half a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    return value


def read_table(
    path: str | Path,
    columns: Sequence[str],
    *,
    error: type[PromptoptError] = FileError,
    remedy: str | None = None,
    delimiters: str = ";,\t",
    any_case: bool = False,
) -> Table:
    """Read a CSV file whose first line names its columns.

    Args:
        path: the file.
        columns: those that there must be; further ones are read too.
        error: the class to raise.
        remedy: what to do where there is no such file, or the header is another one.
        delimiters: those that the header may use; the one that gives the `columns` is taken.
        any_case: column names in any letter case; they are given in lower case.

    Raises:
        FileError: (or `error`) as `read_text` does; another header; a row with more or fewer fields than the
            header, with an odd number of quotation marks, or with a cell that spans what look like rows.
    """
    text = read_text(path, error=error, remedy=remedy)
    if not visible(text).strip():
        raise error("is empty", file=path, remedy=remedy)
    lines = _LINE.findall(text)
    header = lines[0].rstrip("\r\n")
    by_delimiter = {one: _names(header, one, any_case) for one in ";,\t|"}
    fitting = [one for one in delimiters if set(columns) <= set(by_delimiter[one])]
    if not fitting:
        most = max(delimiters, key=lambda one: len(by_delimiter[one]))
        other = next((one for one in by_delimiter if one not in delimiters and one in header), None)
        if other is not None and len(by_delimiter[most]) == 1:
            own = " or ".join(map(repr, delimiters))
            problem = f"got {shortened(header)!r}, separated by {other!r}; the separator is {own}"
        else:
            missing = next(name for name in columns if name not in by_delimiter[most])
            problem = f"got {shortened(header)!r}, without {missing!r}"
        raise error(problem, file=path, line=1, remedy=remedy)
    delimiter = max(fitting, key=lambda one: len(by_delimiter[one]))
    names = by_delimiter[delimiter]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise error(f"has the column {twice!r} twice", file=path, line=1, remedy="Keep one.")
    rows, blank = [], []
    for line, cells in _records(lines, delimiter, path, error):
        if not cells:
            blank.append(line)
            continue
        if len(cells) != len(names):
            raise error(
                f"{len(cells)} fields where the header {shortened(header)!r} has {len(names)}, separated by "
                f"{delimiter!r}: {shortened(delimiter.join(cells))!r}",
                file=path,
                line=line,
                remedy=f"Put a cell that holds {delimiter!r} in double quotes.",
            )
        if any(cell.strip() for name, cell in zip(names, cells, strict=True) if not name):
            raise error(
                "a cell in a column without a name", file=path, line=line, remedy="Name the column in line 1."
            )
        rows.append(TableRow(line, dict(zip(names, cells, strict=True))))
    return Table(tuple(names), tuple(rows), tuple(blank), delimiter)


def near_name(folder: Path, name: str) -> str | None:
    """How a path below a folder is spelled there, where `name` differs only in letter case or Unicode form.

    None where there is none, or more than one.
    """
    found, place = [], folder
    for part in name.split("/"):
        try:
            entries = [entry.name for entry in place.iterdir()]
        except OSError:
            return None
        like = (
            [part]
            if part in entries
            else [entry for entry in entries if spelling_key(entry) == spelling_key(part)]
        )
        if len(like) != 1:
            return None
        found.append(like[0])
        place /= like[0]
    return "/".join(found) if place.is_file() else None


def difference(name: str, other: str) -> str:
    """In what two names differ that `near_name` takes for one."""
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other):
        forms = [
            next((f for f in ("NFC", "NFD") if unicodedata.is_normalized(f, one)), "a mixed form")
            for one in (name, other)
        ]
        return f"in the Unicode form of its letters ({forms[0]} here, {forms[1]} there)"
    return "in upper and lower case"


def spelling_key(name: str) -> str:
    """The same for names that differ in letter case and Unicode form at most."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _names(header: str, delimiter: str, any_case: bool) -> list[str]:
    try:
        cells = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:  # a "header" of more than 131,072 characters
        return []
    return [visible(cell).strip().lower() if any_case else visible(cell).strip() for cell in cells]


def _records(
    lines: Sequence[str], delimiter: str, path: str | Path, error: type[PromptoptError]
) -> list[tuple[int, list[str]]]:
    """Records after the header, each with the line it begins at."""
    limit = csv.field_size_limit(2**31 - 1)  # of the process: the standard one stops at 131,072 characters
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    found = []
    start = 1
    try:
        next(reader)
        if reader.line_num > 1:
            raise csv.Error("the header has a quotation mark without its partner")
        while reader.line_num < len(lines):
            start = reader.line_num + 1
            cells = next(reader)
            found.append((start, cells))
            if fault := _fault(cells, "".join(lines[start - 1 : reader.line_num]), delimiter):
                remedy = "Correct the quotes there; a quotation mark inside a quoted cell is doubled."
                raise error(fault, file=path, line=start, remedy=remedy)
    except csv.Error as fault:
        remedy = "Correct the quotes of the row that begins there."
        raise error(f"not CSV ({fault})", file=path, line=start, remedy=remedy) from None
    finally:
        csv.field_size_limit(limit)
    return found


def _fault(cells: Sequence[str], raw: str, delimiter: str) -> str | None:
    """What is wrong with the quotation marks of a record."""
    if raw.count('"') % 2:
        return "a quotation mark without its partner"
    bare = re.search(rf"(^|{re.escape(delimiter)}) +\"", raw)
    if bare and any(cell[:1] == " " and cell.lstrip().startswith('"') for cell in cells):
        return "a space before a quotation mark"
    named = any(_PICTURE.fullmatch(cell.strip()) for cell in cells)
    for part in (part for cell in cells for part in _parts(cell)):
        fields = part.split(delimiter)
        # In a table of pictures, another row names another picture; in others, it has as many fields.
        full = not named and len(fields) == len(cells) > 1 and all(f.strip() and f[0] != " " for f in fields)
        if full or any(_PICTURE.fullmatch(field.strip()) for field in fields):
            return f"a quotation mark that spans another row, {shortened(part.strip())!r}"
    return None


def _parts(cell: str) -> list[str]:
    """The lines of a cell that has several."""
    lines = [line for _, line in numbered_lines(cell)]
    return lines if len(lines) > 1 else []


def shortened(text: str) -> str:
    """The first 80 characters."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
