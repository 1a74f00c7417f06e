"""A table for a paper in LaTeX: booktabs, never wider than the column it stands in."""

from __future__ import annotations

from collections.abc import Sequence

from promptopt.formatting.escapes import latex

PROSE = r">{\raggedright\arraybackslash}p"
"""A column of text that breaks its lines; its width follows in braces."""
NEEDS = r"% Needs \usepackage{array,booktabs,graphicx}"


def latex_table(
    caption: str, *, label: str, columns: str, heads: Sequence[str], body: Sequence[str], small: bool = True
) -> str:
    r"""A float with one tabular, shrunk only where it would be wider than the text.

    Args:
        caption: plain text.
        label: ASCII letters, digits and hyphens, after ``tab:``.
        columns: the tabular's columns.
        heads, body: lines of LaTeX, each with its own end.
        small: in footnote size.
    """
    lines = [
        r"\begin{table}",
        r"\centering",
        *([r"\footnotesize"] if small else []),
        r"\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{latex(caption)}}}",
        rf"\label{{tab:{label}}}",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\sbox2{{\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *heads,
        r"\midrule",
        *_spaced(body),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\ifdim\wd2>\linewidth\resizebox{\linewidth}{!}{\usebox2}\else\usebox2\fi",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _spaced(body: Sequence[str]) -> list[str]:
    """With a little room between two rows, so that an interval stands nearer to its own value."""
    lines: list[str] = []
    for line in body:
        if lines and line != r"\midrule" and lines[-1] != r"\midrule":
            lines.append(r"\addlinespace[2pt]")
        lines.append(line)
    return lines


def stacked_head(text: str, sign: str = "") -> str:
    """A column's heading in two lines, broken before a bracket or in the middle; then the `sign`."""
    first, bracket, rest = text.partition(" (")
    words = text.split()
    half = (len(words) + 1) // 2
    parts = [first, f"({rest}"] if bracket else [" ".join(words[:half]), " ".join(words[half:])]
    lines = r"\\".join(latex(part) for part in parts if part)
    return rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{lines} {sign}\end{{tabular}}"


def stacked(value: str, interval: str) -> str:
    """A cell of LaTeX with the interval, in brackets and smaller, below its value; minus signs as such."""
    value, interval = value.replace("-", "$-$"), interval.replace("-", "$-$")
    if not interval:
        return value
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{value}\\{{\scriptsize ({interval})}}\end{{tabular}}"
