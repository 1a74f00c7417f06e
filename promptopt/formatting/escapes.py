"""Text for spreadsheets, Markdown and LaTeX, so that it is shown as it is and does nothing."""

# ruff: noqa: RUF001  (the table of signs is about signs that look alike)
from __future__ import annotations

import re
import unicodedata

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


_LATEX = {
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
    **{character: "\\" + character for character in "&%$#_{}"},
    "\u00a0": "~",
    "\u00ad": r"\-",
    "–": "--",
    "—": "---",
    "‘": "{`}",
    "’": "{'}",
    "‚": "{,}",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "•": r"\textbullet{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "£": r"\pounds{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "¿": "?`",
    "¡": "!`",
    "°": r"$^\circ$",
    "¹": "$^1$",
    "²": "$^2$",
    "³": "$^3$",
    **{
        character: f"$\\{name}$"
        for character, name in {
            "µ": "mu",
            "×": "times",
            "÷": "div",
            "±": "pm",
            "≤": "leq",
            "≥": "geq",
            "≠": "neq",
            "≈": "approx",
            "·": "cdot",
            "→": "rightarrow",
            "←": "leftarrow",
            "∞": "infty",
            "α": "alpha",
            "β": "beta",
            "γ": "gamma",
            "δ": "delta",
            "ε": "varepsilon",
            "η": "eta",
            "θ": "theta",
            "κ": "kappa",
            "λ": "lambda",
            "μ": "mu",
            "π": "pi",
            "ρ": "rho",
            "σ": "sigma",
            "τ": "tau",
            "φ": "varphi",
            "χ": "chi",
            "ψ": "psi",
            "ω": "omega",
            "Γ": "Gamma",
            "Δ": "Delta",
            "Θ": "Theta",
            "Λ": "Lambda",
            "Σ": "Sigma",
            "Φ": "Phi",
            "Ψ": "Psi",
            "Ω": "Omega",
        }.items()
    },
    "−": "$-$",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
_LIGATURES = "-',"  # doubled they become another sign


def latex(text: str) -> str:
    """LaTeX's text mode, in ASCII and with no package beyond the kernel's; line breaks become spaces.

    Accented Latin letters, Greek and common signs are written as commands; any other character as its number,
    such as U+4E2D, which is ugly, and compiles everywhere.
    """
    text = unicodedata.normalize("NFC", _printable(_BREAKS.sub(" ", text)))
    shown = []
    for position, character in enumerate(text):
        if character in _LIGATURES and text[position + 1 : position + 2] == character:
            shown.append(f"{{{character}}}")
        else:
            shown.append(_latex_character(character))
    return "".join(shown)


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return f"{{\\{_ACCENTS[marks[0]]}{{{base}}}}}"
    return f"{{\\ttfamily U+{ord(character):04X}}}"


def _printable(text: str) -> str:
    """Control characters as spaces."""
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
