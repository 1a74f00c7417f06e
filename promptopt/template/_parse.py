"""Template text -> syntax tree. A hand-written parser, so that every error knows its line and column."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from promptopt.template._errors import TemplateError

MAX_DEPTH = 40
_ESCAPABLE = frozenset("{}|_$:\\")
_BEFORE_WEIGHT = re.compile(r"[^{}|\\]*?::")
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_SEVERAL = re.compile(r"\s*(\d*\s*-\s*\d*|\d+)\s*\$\$")


@dataclass(frozen=True)
class Wildcard:
    """`__name__`, at `offset` of its source."""

    name: str
    offset: int


@dataclass(frozen=True)
class Variant:
    """`{...}`: weighted options."""

    options: tuple[tuple[float, "Sequence"], ...]
    offset: int


Node = str | Wildcard | Variant
Sequence = tuple[Node, ...]


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.position = 0

    def error(self, problem: str, remedy: str, offset: int) -> TemplateError:
        return TemplateError(problem, remedy, text=self.text, offset=offset, source=self.source)

    def sequence(self, depth: int) -> Sequence:
        """Nodes up to the end, or (inside braces) up to the `|` or `}` that ends the option."""
        return tuple(_joined(self._nodes(depth)))

    def _nodes(self, depth: int) -> Iterator[Node]:
        text = self.text
        while self.position < len(text):
            start = self.position
            character = text[start]
            if character == "\\" and text[start + 1 : start + 2] in _ESCAPABLE and start + 1 < len(text):
                self.position += 2
                yield text[start + 1]
            elif text.startswith("${", start):
                raise self.error(
                    "variables are not supported yet",
                    "Name a list of options by making it a wildcard; a literal '${' is written '\\$\\{'.",
                    start,
                )
            elif character == "{":
                yield self._variant(depth + 1)
            elif text.startswith("__", start):
                yield self._wildcard()
            elif character in "|}":
                if depth:
                    return
                raise self.error(
                    f"'{character}' outside of braces",
                    f"Put options into braces, {{a|b}}; write a literal '{character}' as '\\{character}'.",
                    start,
                )
            else:
                self.position += 1
                yield character

    def _wildcard(self) -> Wildcard:
        start = self.position
        end = self.text.find("__", start + 2)
        name = self.text[start + 2 : end] if end >= 0 else ""
        if end < 0 or any(character in name for character in "{}|\n"):
            raise self.error(
                "the wildcard that starts here is not closed",
                "Write two underscores on either side, __name__; a literal '__' is written '\\_\\_'.",
                start,
            )
        if not name.strip():
            raise self.error(
                "a wildcard without a name", "Write its name between the underscores: __name__.", start
            )
        self.position = end + 2
        return Wildcard(name.strip(), start)

    def _variant(self, depth: int) -> Variant:
        start = self.position
        if depth > MAX_DEPTH:
            raise self.error(
                f"braces nested more than {MAX_DEPTH} deep", "Split the template into wildcards.", start
            )
        self.position += 1
        if several := _SEVERAL.match(self.text, self.position):
            raise self.error(
                f"choosing several options at a time ('{several.group().strip()}') is not supported yet",
                "Write one {a|b} for each option to be chosen.",
                self.position,
            )
        options = []
        while True:
            weight = self._weight()
            options.append((weight, self.sequence(depth)))
            if self.position >= len(self.text):
                raise self.error(
                    "the brace that opens here is never closed",
                    "Add the missing '}'; a literal '{' is written '\\{'.",
                    start,
                )
            closed = self.text[self.position] == "}"
            self.position += 1
            if closed:
                return Variant(tuple(options), start)

    def _weight(self) -> float:
        """Reads `2::` where an option starts; 1 where there is none."""
        match = _BEFORE_WEIGHT.match(self.text, self.position)
        if match is None:
            return 1.0
        written = match.group()[:-2]
        offset = self.position + len(written) - len(written.lstrip())
        weight = float(written) if _NUMBER.fullmatch(written.strip()) else math.nan
        if not 0 < weight < math.inf:  # also false for the NaN that stands for "no number"
            raise self.error(
                f"{written.strip()!r} is no weight",
                "A weight is a positive number before '::', as in {2::a|1::b}; leave out an option that is "
                "never wanted; a literal '::' is written '\\::'.",
                offset,
            )
        self.position = match.end()
        return weight


def _joined(nodes: Iterator[Node]) -> Iterator[Node]:
    """Runs of characters as one string."""
    run: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            run.append(node)
            continue
        if run:
            yield "".join(run)
            run = []
        yield node
    if run:
        yield "".join(run)


def parse(text: str, *, source: str = "template") -> Sequence:
    """The syntax tree of a whole template. Raises `TemplateError`."""
    return _Parser(text, source).sequence(0)


def parse_option(text: str, *, source: str) -> tuple[float, Sequence]:
    """One option of a wildcard list, which may start with a weight (`2::red`)."""
    parser = _Parser(text, source)
    weight = parser._weight()
    return weight, parser.sequence(0)
