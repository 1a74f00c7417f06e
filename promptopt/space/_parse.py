"""Template text -> syntax tree, by a LALR grammar; every fault becomes a `TemplateError` with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from lark import Lark, Token, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError
from lark.visitors import Transformer_NonRecursive

from promptopt.space._errors import TemplateError
from promptopt.space._syntax import Access, Assignment, Node, Sequence, Several, Variant, Wildcard

MAX_DEPTH = 40

# The lexer knows what may come next, so WEIGHT, RANGE and SEPARATOR are looked for at their own place alone,
# and `$$` is plain text outside of braces. WEIGHT takes anything before `::`, to say what is wrong with it.
# What stands in a wildcard's name, or in a parameter's value, ends at other characters than a text does: its
# braces have rules of their own, so that the lexer knows which of them goes on behind a brace.
_GRAMMAR = r"""
template: (_part | DOLLARS | assignment)*
entry: [WEIGHT] (_part | DOLLARS | assignment)*

_part: TEXT | ESCAPE | wildcard | variant | ACCESS | access
variant: OPEN [SAMPLER] [several] option ("|" option)* "}"
several: RANGE [SEPARATOR]
option: [WEIGHT] _part*
assignment: ASSIGN _part* "}"
access: DEFAULT _part* "}"
wildcard: NAMED [SAMPLER] _named* [parameters] _NAMED

_named: NAME | named_variant | ACCESS | named_access
named_variant: OPEN [SAMPLER] [several] option ("|" option)* "}" -> variant
named_access: DEFAULT _part* "}" -> access

parameters: PARENTHESIS parameter ("," parameter)* _PARENTHESIS
parameter: PARAMETER _valued*
_valued: VALUE | ESCAPE | valued_wildcard | valued_variant | ACCESS | valued_access
valued_wildcard: NAMED [SAMPLER] _named* [parameters] _NAMED -> wildcard
valued_variant: OPEN [SAMPLER] [several] option ("|" option)* "}" -> variant
valued_access: DEFAULT _part* "}" -> access

OPEN: "{"
RANGE.5: /\s*(\d+|\d*\s*-\s*\d*)\s*\$\$/
SEPARATOR.5: /[^${}]*\$\$/
WEIGHT.4: /[^{}|\\]*?::/
ASSIGN.3: /\$\{\s*[A-Za-z_-][\w-]*\s*\??=\s*!?/
DEFAULT.3: /\$\{\s*[A-Za-z_-][\w-]*\s*:/
ACCESS.3: /\$\{\s*[A-Za-z_-][\w-]*\s*\}/
ESCAPE.3: /\\[{}|_$:#\/\\]/
SAMPLER.6: /[~!@]/
NAMED.3: "__"
_NAMED.3: "__"
NAME: /((?!__|\$\{)[^{}|\n(])+/
PARENTHESIS.3: "("
_PARENTHESIS.3: /\)\s*/
PARAMETER.3: /\s*[A-Za-z_-][\w-]*\s*=/
VALUE: /((?!__|\$\{|\$\$)[^{}|\\(),]|\\(?![{}|_$:#\/\\]))+/
DOLLARS: "$$"
TEXT: /((?!__|\$\{|\$\$)[^{}|\\]|\\(?![{}|_$:#\/\\]))+/
"""
# Within a word `//` and `/*` are part of it, as in an address or in `__color/*__`.
_COMMENT = re.compile(r"\\.|#[^\n]*|(?<![^\s{}|])(?://[^\n]*|/\*.*?(?:\*/|\Z))", re.DOTALL)
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_VARIABLE = re.compile(r"\$\{\s*([\w-]+)\s*(\??)=?\s*(!?)")


class Entry(NamedTuple):
    """One option of a wildcard list."""

    weight: float
    sequence: Sequence


def parse(text: str, *, source: str = "template") -> Sequence:
    """The syntax tree of a whole template. Raises `TemplateError`."""
    tree: Sequence = _Reader(text, source).read("template")
    return tree


def parse_option(text: str, *, source: str) -> Entry:
    """One option of a wildcard list, which may start with a weight (`2::red`). Raises `TemplateError`."""
    tree: Entry = _Reader(text, source).read("entry")
    return tree


@cache
def _grammar() -> Lark:
    return Lark(
        _GRAMMAR,
        parser="lalr",
        start=["template", "entry"],
        maybe_placeholders=True,
        propagate_positions=False,
    )


class _Reader:
    """One text, read once."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.plain = _COMMENT.sub(self._blank, text)

    def error(self, problem: str, remedy: str, offset: int) -> TemplateError:
        return TemplateError(problem, remedy, text=self.text, offset=offset, source=self.source)

    def _blank(self, match: re.Match[str]) -> str:
        """A comment as white space of the same length: what follows keeps its place."""
        found = match.group()
        if found.startswith("\\"):
            return found
        if found.startswith("/*") and not (found.endswith("*/") and len(found) > 3):
            raise self.error(
                "the comment that starts here is not closed",
                "Add the missing '*/'; a literal '/*' is written '\\/*'.",
                match.start(),
            )
        return re.sub(r"[^\n]", " ", found)

    def read(self, start: str) -> Any:
        if "\0" in self.text:
            raise self.error("a NUL character", "Take it out.", self.text.index("\0"))
        try:
            tree = _grammar().parse(self.plain, start=start)
            result = _Builder(self).transform(tree)
        except UnexpectedInput as error:
            raise self.explain(error) from None
        except VisitError as error:
            raise error.orig_exc from None
        _check_depth(result.sequence if isinstance(result, Entry) else result, self)
        return result

    def explain(self, error: UnexpectedInput) -> TemplateError:
        """What the grammar did not expect, in words."""
        ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        at = len(self.plain) if ended else int(error.pos_in_stream or 0)
        opened = _opened(error)
        if not ended and (match := _VARIABLE.match(self.plain, at)):
            return self._bad_variable(match)
        if opened and opened[-1].type in ("NAMED", "PARENTHESIS", "_PARENTHESIS"):
            return self._bad_wildcard(opened, at)
        if ended:
            return self._unclosed(opened[-1])
        if self.plain.startswith("$$", at):
            start = int(opened[-1].start_pos or 0) if opened else 0
            if self.plain.startswith("%{", start - 1):
                return self.error(
                    "'%{' wraps one text into another, which a template's slots cannot say",
                    "Write the wrapping text on both sides of the choice; a literal '%{' is written '%\\{'.",
                    start - 1,
                )
            return self.error(
                "'$$' without a number of options before it",
                "Write how many options to take at the head of the brace, {2$$a|b|c} or {0-2$$ and $$a|b|c}; "
                "a literal '$$' is written '\\$\\$'.",
                at,
            )
        if self.plain.startswith("${", at):
            return self.error(
                "a variable without a name",
                "Write ${name=value} or ${name}, the name of letters, digits, '_' and '-'; "
                "a literal '${' is written '\\$\\{'.",
                at,
            )
        character = self.plain[at]
        return self.error(
            f"'{character}' outside of braces",
            f"Put options into braces, {{a|b}}; write a literal '{character}' as '\\{character}'.",
            at,
        )

    def _bad_variable(self, match: re.Match[str]) -> TemplateError:
        name, at = match[1], match.start()
        if re.match(r"[A-Za-z_-]", name) is None:
            return self.error(f"{name!r} is no name of a variable", "Begin it with a letter.", at)
        if self.plain[match.end(1) :].lstrip()[:1] in ("=", "?"):
            return self.error(
                f"variable '{name}' is set inside of braces",
                "Set it at the top level of the template; inside of braces it can only be used, ${name}.",
                at,
            )
        return self.error(
            f"the variable '{name}' that starts here is not closed",
            "Write ${name}, ${name:default} or ${name=value}.",
            at,
        )

    def _bad_wildcard(self, opened: list[Token], at: int) -> TemplateError:
        last = opened[-1]
        if last.type == "NAMED":
            within = len(opened) > 1 and opened[-2].type == "PARENTHESIS"
            return self.error(
                "the wildcard that starts here is not closed",
                "Write two underscores on either side, __name__; a literal '__' is written '\\_\\_'."
                + " If it ends the wildcard before it, that one's parenthesis lacks its ')'." * within,
                int(last.start_pos or 0),
            )
        if last.type == "_PARENTHESIS":
            return self.error(
                "two underscores have to follow a wildcard's parameters",
                "Write __name(variable=value)__.",
                min(at, len(self.plain) - 1),
            )
        return self.error(
            "what stands in a wildcard's parentheses is no list of parameters",
            "Write __name(variable=value)__, or more with commas between them; "
            "a value with commas or parentheses goes into braces, {a, b}.",
            min(at, len(self.plain) - 1),
        )

    def _unclosed(self, opening: Token) -> TemplateError:
        start = int(opening.start_pos or 0)
        hidden = self.text[start:] != self.plain[start:]
        return self.error(
            "the brace that opens here is never closed",
            "Add the missing '}'; a literal '{' is written '\\{'."
            + (" What stands behind '#' or '//' is a comment; a literal '#' is written '\\#'." * hidden),
            start,
        )


class _Builder(Transformer_NonRecursive[Token, Any]):
    """Lark's tree -> ours, from the leaves up; however deep the braces."""

    def __init__(self, reader: _Reader) -> None:
        super().__init__(visit_tokens=False)
        self.reader = reader

    def template(self, children: list[Any]) -> Sequence:
        return self.sequence(children)

    def entry(self, children: list[Any]) -> Entry:
        return Entry(self.weight(children[0]), self.sequence(children[1:]))

    def option(self, children: list[Any]) -> tuple[float, Sequence]:
        return self.weight(children[0]), self.sequence(children[1:])

    def variant(self, children: list[Any]) -> Variant:
        opening, sampler, several, *options = children
        self.no_sampler(sampler, "brace", f"; where the option begins with it, write '{{ {sampler}'")
        return Variant(tuple(options), several, int(opening.start_pos))

    def wildcard(self, children: list[Any]) -> Wildcard:
        opening, sampler, *name, parameters = children
        self.no_sampler(sampler, "wildcard")
        offset = int(opening.start_pos)
        found = _stripped(self.sequence(name))
        if not found:
            raise self.reader.error(
                "a wildcard without a name", "Write its name between the underscores: __name__.", offset
            )
        return Wildcard(found, tuple(parameters or ()), offset)

    def parameters(self, children: list[Any]) -> list[Assignment]:
        return children[1:]

    def parameter(self, children: list[Any]) -> Assignment:
        head, *value = children
        offset = int(head.start_pos) + len(head) - len(head.lstrip())
        name = str(head[:-1]).strip()
        sequence = _stripped(self.sequence(value))
        return Assignment(name, sequence, immediate=False, keep=False, offset=offset)

    def no_sampler(self, symbol: Token | None, what: str, unless: str = "") -> None:
        """`{!a|b}`, `__~x__`, `{@a|b}` say how that library samples. Here the study says how."""
        if symbol is not None:
            raise self.reader.error(
                f"'{symbol}' at the head of a {what} names a way of sampling, which a template has no say in",
                f"Take it out{unless}.",
                int(symbol.start_pos or 0),
            )

    def several(self, children: list[Any]) -> Several:
        range_, separator = children
        offset = int(range_.start_pos) + len(range_) - len(range_.lstrip())
        low, dash, high = (part.strip() for part in range_[:-2].partition("-"))
        if not low and not high:
            raise self.reader.error(
                "a range without numbers",
                "Write {2$$a|b|c}, {1-2$$a|b|c}, {1-$$a|b|c} or {-2$$a|b|c}.",
                offset,
            )
        first = int(low) if low else 1
        last = (int(high) if high else None) if dash else first
        if last is not None and last < first:
            raise self.reader.error(
                f"the range {first}-{last} runs backwards", f"Write {last}-{first}.", offset
            )
        return Several(first, last, ", " if separator is None else str(separator[:-2]), offset)

    def assignment(self, children: list[Any]) -> Assignment:
        head, *value = children
        match = _VARIABLE.match(head)
        assert match is not None
        return Assignment(
            match[1],
            _stripped(self.sequence(value)),
            immediate=bool(match[3]),
            keep=bool(match[2]),
            offset=int(head.start_pos),
        )

    def access(self, children: list[Any]) -> Access:
        head, *default = children
        return Access(str(head[2:-1]).strip(), _stripped(self.sequence(default)), int(head.start_pos))

    def weight(self, token: Token | None) -> float:
        if token is None:
            return 1.0
        written = str(token[:-2])
        weight = float(written) if _NUMBER.fullmatch(written.strip()) else math.nan
        if not 0 < weight < math.inf:  # also false for the NaN that stands for "no number"
            raise self.reader.error(
                f"{written.strip()!r} is no weight",
                "A weight is a positive number before '::', as in {2::a|1::b}; leave out an option that is "
                "never wanted; a literal '::' is written '\\::'.",
                int(token.start_pos or 0) + len(written) - len(written.lstrip()),
            )
        return weight

    def sequence(self, children: Iterable[Any]) -> Sequence:
        return tuple(_joined(self.leaf(child) for child in children))

    def leaf(self, child: Any) -> Node:
        if not isinstance(child, Token):
            node: Node = child
            return node
        offset = int(child.start_pos or 0)
        if child.type == "ESCAPE":
            return str(child[1])
        if child.type == "ACCESS":
            return Access(str(child[2:-1]).strip(), None, offset)
        return str(child)


def _opened(error: UnexpectedInput) -> list[Token]:
    """What is open where the parser stopped, the innermost last."""
    parser = getattr(error, "interactive_parser", None)
    stack = parser.parser_state.value_stack if parser else []
    kinds = ("OPEN", "ASSIGN", "DEFAULT", "NAMED", "PARENTHESIS", "_PARENTHESIS")
    return [token for token in stack if isinstance(token, Token) and token.type in kinds]


def _joined(nodes: Iterable[Node]) -> Iterator[Node]:
    """Neighboring texts as one."""
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


def _stripped(sequence: Sequence) -> Sequence:
    """Without white space at either end."""
    nodes = list(sequence)
    if nodes and isinstance(nodes[0], str):
        nodes[0] = nodes[0].lstrip()
    if nodes and isinstance(nodes[-1], str):
        nodes[-1] = nodes[-1].rstrip()
    return tuple(node for node in nodes if node != "")


def _check_depth(sequence: Sequence, reader: _Reader) -> None:
    waiting = [(node, 1) for node in sequence]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, str):
            continue
        if depth > MAX_DEPTH:
            raise reader.error(
                f"braces nested more than {MAX_DEPTH} deep", "Split the template into wildcards.", node.offset
            )
        if isinstance(node, Wildcard):
            inner = [*node.name, *(child for one in node.parameters for child in one.value)]
        elif isinstance(node, Variant):
            inner = [child for _, option in node.options for child in option]
        else:
            inner = list((node.value if isinstance(node, Assignment) else node.default) or ())
        waiting += [(child, depth + 1) for child in inner]
