"""FID and IS by generator and center in one table, as the challenge's papers print them."""

from __future__ import annotations

import textwrap

from promptopt.comparison.run import GeneratorComparison
from promptopt.comparison.tables import Rows, arrow, latex_lines, rows_csv
from promptopt.formatting.escapes import latex
from promptopt.formatting.latex import latex_table

_METRICS = ("fd", "is")


def summary_csv(comparison: GeneratorComparison) -> str:
    """One line a generator: distance and Inception score of every center with interval, n and status."""
    columns = _columns(comparison)
    return rows_csv([f"{name}, {scope}" for name, scope in columns], _rows(comparison, columns))


def summary_latex(comparison: GeneratorComparison, *, label: str, settings: str) -> str:
    """The same for a paper; needs ``\\usepackage{array,booktabs,graphicx}``. Wide tables are of small type.

    The best value of a column is bold where its interval lies apart from those of all other generators.
    """
    columns = _columns(comparison)
    names = list(dict.fromkeys(name for name, _ in columns))
    above, rules, place = [""], [], 2
    for name in names:
        width = sum(own == name for own, _ in columns)
        above.append(rf"\multicolumn{{{width}}}{{c}}{{{latex(name)} {arrow(comparison, name)}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    heads = ["Generator", *(latex(_short(scope)) for _, scope in columns)]
    caption = (
        "Distance to the real images and Inception score by generator and center; 95 % intervals in "
        "brackets. Bold: best, and its interval lies apart from all other generators'. *: unreliable at this "
        f"number of images; \u2013: not defined. Settings: {settings}."
    )
    return latex_table(
        caption,
        label=label,
        columns="l" + "r" * len(columns),
        heads=[" & ".join(above) + r" \\", "".join(rules), " & ".join(heads) + r" \\"],
        body=latex_lines(_rows(comparison, columns)),
        small=len(columns) > 4,
    )


def _columns(comparison: GeneratorComparison) -> list[tuple[str, str]]:
    """(name of the measure, title of the center), distances first."""
    titles = [scope.title for scope in comparison.scopes]
    found = {
        (score.metric, score.name, score.scope)
        for metric in _METRICS
        for score in comparison.of(metric=metric)
    }
    names = [
        (metric, name)
        for metric in _METRICS
        for name in dict.fromkeys(s.name for s in comparison.of(metric=metric))
    ]
    return [(name, title) for metric, name in names for title in titles if (metric, name, title) in found]


def _rows(comparison: GeneratorComparison, columns: list[tuple[str, str]]) -> Rows:
    found = {(s.generator, s.name, s.scope): s for s in comparison.of()}
    generators = dict.fromkeys(score.generator for score in comparison.of())
    return [(g, [found.get((g, name, scope)) for name, scope in columns]) for g in generators]


def _short(title: str) -> str:
    """`single center: north` as `single (north)`; long lists of centers shortened."""
    kind, colon, centers = title.partition(": ")
    if not colon:
        return title
    listed = textwrap.shorten(centers, 24, placeholder=" ...")
    return f"{kind.removesuffix(' center')} ({listed})"
