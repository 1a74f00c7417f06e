"""Escaped text means the text: against a Markdown parser, a spreadsheet's rule, and LaTeX read back."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from promptopt.formatting.escapes import csv_original, csv_text, latex, markdown

_SPECIAL = st.text(alphabet="\\%_&#~^${}[]<>|*`'\"-+=@!?,:.ab \n\tÄéßµ°²中\u2212", max_size=30)
TEXTS = st.one_of(_SPECIAL, st.text(max_size=30))


@given(TEXTS)
@example("=1+1")
@example("'=1+1")
@example(" \t@SUM(A1)")
def test_no_cell_is_a_formula_and_the_text_comes_back(text: str) -> None:
    cell = csv_text(text)
    assert csv_original(cell) == text
    assert not re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", cell)
    assert cell[:1] not in ("\t", "\r", "\n")


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("a polyp, 5-10mm", "1 polyp", "with the color(s) {pink}", ""):
        assert csv_text(text) == text
    assert latex("a polyp, 5-10mm") == markdown("a polyp, 5-10mm") == "a polyp, 5-10mm"


@given(TEXTS)
@example("a | b \\| c")
@example("<script>alert(1)</script> [x](javascript:1) ![](y) `z` **b** ~~s~~ &lt;")
def test_a_markdown_cell_shows_the_text(text: str) -> None:
    cell = markdown(text)
    assert "\n" not in cell
    page = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = page.parse(f"| a | b |\n| --- | --- |\n| x | {cell} |\n")
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 4, "the cell broke the table"
    shown = inline[3]
    assert {child.type for child in shown.children or []} <= {"text", "text_special"}
    got = "".join(child.content for child in shown.children or [])
    parts = re.split(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)
    expected = "<br>".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in p) for p in parts)
    # the ends of a cell are trimmed, and U+0000 cannot be in Markdown; the rest is exact
    assert got.strip() == expected.strip()


def _read_latex(source: str) -> str:
    """A reader of the little LaTeX that `latex` may write, from the LaTeX companion's tables; None else."""
    names = {
        "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<",
        "textgreater": ">", "textbar": "|", "ldots": "…", "ss": "ß",
    }  # fmt: skip
    accents = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308"}
    token = re.compile(
        r"\\(?P<escaped>[&%$#_{}])"
        r"|\\char34\{\}(?P<quote>)"
        r"|(?:\{\\(?P<braced>[a-zA-Z]+)\}|\\(?P<name>[a-zA-Z]+)\{\})"
        r"|\{\\ttfamily U\+(?P<code>[0-9A-F]{4,6})\}"
        r"|\{\\(?P<accent>[`'^~\"])\{?(?P<base>[A-Za-z])\}?\}"
        r"|\{(?P<held>[`',\[\]-])\}"
        r"|(?P<plain>[^\\{}%$&#_^~\"`\[\]<>|])"
    )
    shown, position = "", 0
    while position < len(source):
        match = token.match(source, position)
        assert match, f"not LaTeX that we know: {source[position:]!r}"
        position = match.end()
        if name := match["name"] or match["braced"]:
            shown += names[name]
        elif match["code"]:
            shown += chr(int(match["code"], 16))
        elif match["accent"]:
            shown += unicodedata.normalize("NFC", match["base"] + accents[match["accent"]])
        elif match["quote"] is not None:
            shown += '"'
        else:
            shown += match["escaped"] or match["held"] or match["plain"]
    return shown


@given(st.text(alphabet="\\%_&#~^${}[]<>|*`'\"-+=@!?,:.ab Äéß中🙂", max_size=40))
@example("--- '' ,, ?` !` \\\\[2pt]")
def test_latex_reads_back_as_the_text(text: str) -> None:
    assert _read_latex(latex(text)) == unicodedata.normalize("NFC", text)


@given(TEXTS)
def test_latex_is_ascii_balanced_and_has_no_line_break(text: str) -> None:
    source = latex(text)
    assert source.isascii()
    assert source.isprintable()
    bare = re.sub(r"\\[&%$#_{}]", "", source)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set(bare) & set("%&#")
    for ligature in ("--", "''", ",,", "?`", "!`", "``"):
        # only where the text has the sign itself: a dash, a quotation mark, an opening question mark
        if ligature in source:
            assert set(text) & set("\u2013—“”¿¡")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("5 µm", r"5 \ensuremath{\mu}m"),
        ("\u22121", r"{\ensuremath{-}}1"),
        ("Ångström", r"{\r{A}}ngstr{\"o}m"),
        ("37 °C, 2²", r"37 \ensuremath{^\circ}C, 2\ensuremath{^2}"),
        ("ħ中", r"{\ttfamily U+0127}{\ttfamily U+4E2D}"),
    ],
)
def test_signs_have_commands(text: str, source: str) -> None:
    assert latex(text) == source


def test_accents_are_those_of_unicode() -> None:
    """Every Latin letter with one mark, against its decomposition in Unicode's own tables."""
    macros = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u"}
    macros |= {"\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"}
    written = 0
    for code in range(0xC0, 0x180):
        base, *marks = unicodedata.normalize("NFD", chr(code))
        source = latex(chr(code))
        if len(marks) == 1 and not source.startswith(r"{\ttfamily"):
            found = re.fullmatch(r"\{\\([a-zA-Z`'^~=.\"])\{?\\?([A-Za-z])\}?\}", source)
            assert found, source
            assert found.groups() == (macros[marks[0]], base), chr(code)
            written += 1
    assert written > 100
