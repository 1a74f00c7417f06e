"""The tables, one for each scope, as CSV and LaTeX (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence

from promptopt.comparison.run import REAL, GeneratorComparison
from promptopt.comparison.scopes import Scope
from promptopt.comparison.scores import Score
from promptopt.formatting.escapes import latex
from promptopt.formatting.latex import latex_table, stacked, stacked_head
from promptopt.formatting.numbers import value_and_interval
from promptopt.formatting.tables import csv_table

Rows = Sequence[tuple[str, Sequence[Score | None]]]
"""Generators, each with its score in every column."""


def long_csv(comparison: GeneratorComparison) -> str:
    """Every number, one a line."""
    heads = [name for name in Score.__dataclass_fields__ if name != "estimate"]
    return csv_table(
        heads,
        [[getattr(score, name) for name in heads] for score in comparison.scores],
        [{"": score.estimate} for score in comparison.scores],
        exact=True,
    )


def table_csv(comparison: GeneratorComparison, scope: Scope) -> str:
    """One line a generator; every metric as an Estimate."""
    return rows_csv(*_grid(comparison, scope))


def rows_csv(names: Sequence[str], rows: Rows) -> str:
    """One line a generator; its scores, called by `names`, as Estimates."""
    estimates = [
        {name: score.estimate if score else None for name, score in zip(names, cells, strict=True)}
        for _, cells in rows
    ]
    return csv_table(["generator"], [[generator] for generator, _ in rows], estimates)


def table_latex(comparison: GeneratorComparison, scope: Scope) -> str:
    """A table for a paper; needs ``\\usepackage{array,booktabs,graphicx}``.

    The best value of a column is bold where its interval lies apart from those of all other generators.
    """
    names, rows = _grid(comparison, scope)
    heads = [stacked_head(name, arrow(comparison, name)) for name in names]
    sizes = sorted(
        {(score.n_real, score.n_generated) for score in comparison.of(scope=scope.title, metric="fd")}
    )
    counted = " or ".join(f"{real} real and {made} generated" for real, made in sizes)
    caption = (
        f"{scope.title[0].upper()}{scope.title[1:]}: {counted} images; 95 % intervals in brackets. "
        "Bold: best, and its interval lies apart from all other generators'. "
        "*: unreliable at this number of images; \u2013: not defined."
    )
    return latex_table(
        caption,
        label=scope.slug,
        columns="l" + "r" * len(names),
        heads=[" & ".join(["Generator", *heads]) + r" \\"],
        body=latex_lines(rows),
        small=False,
    )


def shown(score: Score) -> tuple[str, str]:
    """Value and interval for people."""
    style, scale, unit = (".1f", 100.0, " %") if score.metric == "memorization" else ("", 1.0, "")
    return value_and_interval(score.estimate, style, scale=scale, unit=unit, mark="")


def stands_apart(score: Score, others: Sequence[Score]) -> bool:
    """Whether a score is better than all others, and its interval apart from theirs."""
    own = score.estimate
    if own.low is None or own.high is None:
        return False
    rivals = [other.estimate for other in others if other.generator != score.generator]
    if not rivals or any(rival.low is None or rival.high is None for rival in rivals):
        return False
    if score.better == "lower":
        return all(own.high < rival.low for rival in rivals if rival.low is not None)
    return all(own.low > rival.high for rival in rivals if rival.high is not None)


def _grid(comparison: GeneratorComparison, scope: Scope) -> tuple[list[str], Rows]:
    """The metrics that the table has, and for each generator its scores in their order."""
    scores = comparison.of(scope=scope.title)
    names = list(dict.fromkeys(score.name for score in scores if score.metric != "memorization"))
    names += dict.fromkeys(score.name for score in scores if score.metric == "memorization")
    found = {(score.generator, score.name): score for score in scores}
    generators = dict.fromkeys(score.generator for score in scores)
    return names, [(g, [found.get((g, name)) for name in names]) for g in generators]


def arrow(comparison: GeneratorComparison, name: str) -> str:
    """In LaTeX, which way a metric is better."""
    better = next(score.better for score in comparison.scores if score.name == name)
    return r"$\downarrow$" if better == "lower" else r"$\uparrow$"


def latex_lines(rows: Rows) -> list[str]:
    """The body of a table, the best of a column bold where it stands apart; real images do not compete."""
    made = [cells for name, cells in rows if name != REAL]
    body = []
    for generator, cells in rows:
        shown = []
        for place, score in enumerate(cells):
            rivals = [own for row in made if (own := row[place]) is not None]
            shown.append(_cell(score, bold=score is not None and stands_apart(score, rivals)))
        body.append(" & ".join([latex(generator), *shown]) + r" \\")
    return body


def _cell(score: Score | None, *, bold: bool) -> str:
    """Value and interval for LaTeX; an asterisk where unreliable, two hyphens where there is no value."""
    if score is None or score.estimate.value is None:
        return "--"
    value, interval = shown(score)
    text = latex(value)
    if bold and score.generator != REAL:
        text = rf"\textbf{{{text}}}"
    return stacked(text + ("*" if score.estimate.status == "unreliable" else ""), interval)
