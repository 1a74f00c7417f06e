"""Text for spreadsheets, Markdown and LaTeX, so that it is shown as it is and does nothing."""

# ruff: noqa: RUF001  (the table of signs is about signs that look alike)
from __future__ import annotations

import re
import unicodedata
from functools import cache

_FORMULA = "=+-@＝＋－＠"  # a spreadsheet takes what begins like this for a formula, full width too
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def csv_text(text: str) -> str:
    """A cell that no spreadsheet computes: text that could be a formula gets an apostrophe before it.

    Text that begins with an apostrophe gets one more, so `csv_original` is exact.
    """
    start = text.lstrip()[:1]
    risky = (start and start in _FORMULA) or text[:1] in ("'", "\t", "\r", "\n")
    return f"'{text}" if risky else text


def csv_original(cell: str) -> str:
    """Inverse of `csv_text`."""
    return cell[1:] if cell.startswith("'") else cell


_MARKDOWN = {
    **{character: "\\" + character for character in "`*_[]{}#~$!"},
    "\\": "&#92;",
    "|": "&#124;",  # as an entity, since renderers differ on escaped bars within table cells
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
}


def markdown(text: str) -> str:
    """A table cell in GitHub's Markdown that shows this text; line breaks become <br>."""
    parts = _BREAKS.split(text)
    return "<br>".join("".join(_MARKDOWN.get(c, c) for c in _printable(part)) for part in parts)


# What means something else to TeX, or what pylatexenc writes with packages or wrongly
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # babel makes " active
    "`": "{`}",
    "[": "{[}",  # after a line break in a table it would begin an argument
    "]": "{]}",
    "\u00a0": "~",
    "‚": "{,}",
    "„": "{,}{,}",
    "°": r"\ensuremath{^\circ}",
    **{sign: rf"\ensuremath{{^{digit}}}" for sign, digit in zip("¹²³", "123", strict=True)},
    **{
        sign: rf"\ensuremath{{\{name}}}"
        for sign, name in zip("µ×÷→←", ("mu", "times", "div", "rightarrow", "leftarrow"), strict=True)
    },
    "Ű": r"{\H{U}}",
    "ű": r"{\H{u}}",
}
_WRONG = "ĦħŦŧ"  # which pylatexenc takes for letters with a macron
# Commands of LaTeX's kernel, in text and in mathematics
_TEXT = (
    "ensuremath ` ' ^ \" ~ = . u v H r c d b i j ss ae AE oe OE o O l L - textendash textemdash "
    "textquoteleft textquoteright textquotedblleft textquotedblright textexclamdown textquestiondown "
    "textellipsis textbullet textdagger textdaggerdbl textsection textparagraph textcopyright textsterling"
)
_MATH = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi varpi "
    "rho varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma "
    "Upsilon Phi Psi Omega pm mp leq geq neq approx equiv sim simeq propto infty partial nabla in notin cap "
    "cup subset supset sum prod int cdot bullet circ star leftrightarrow Rightarrow Leftarrow "
    "Leftrightarrow wedge vee forall exists ell"
)


def latex(text: str) -> str:
    """LaTeX's text mode, in ASCII and with no package beyond the kernel's; line breaks become spaces.

    Accented Latin letters, Greek and common signs are written as commands; any other character as its number,
    such as U+4E2D, which is ugly, and compiles everywhere.
    """
    text = unicodedata.normalize("NFC", _printable(_BREAKS.sub(" ", text)))
    # doubled, these three become another sign
    return re.sub(r"([-',])(?=\1)|[^\w .,;:?!'()/*+=@-]|[^ -~]|_", _command, text)


def _command(match: re.Match[str]) -> str:
    character = match[0]
    return f"{{{character}}}" if match[1] else _LATEX.get(character) or _by_pylatexenc(character)


@cache
def _by_pylatexenc(character: str) -> str:
    from pylatexenc.latexencode import get_builtin_uni2latex_dict

    command = "" if character in _WRONG else str(get_builtin_uni2latex_dict().get(ord(character), ""))
    math = re.fullmatch(r"\\ensuremath\{(.*)\}", command)
    known = set((_MATH if math else _TEXT).split())
    used = set(re.findall(r"\\([A-Za-z]+|.)", math[1] if math else command))
    if used <= known and (used or math or re.fullmatch("[A-Za-z]+|-", command)):
        return command if command == r"\-" else f"{{{command}}}"
    return f"{{\\ttfamily U+{ord(character):04X}}}"


def _printable(text: str) -> str:
    """Control characters as spaces."""
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
