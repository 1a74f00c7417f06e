"""The best-prompt list as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Sequence

from promptopt.base.naming import slug
from promptopt.export.best import BestList, Row, rows
from promptopt.formatting.escapes import latex, markdown
from promptopt.formatting.latex import NEEDS, PROSE, latex_table, stacked
from promptopt.formatting.numbers import in_cell, value_and_interval
from promptopt.formatting.tables import csv_table
from promptopt.run.prompts import EstimateEntry, PromptList
from promptopt.space import Candidate

_COLUMNS = 4  # prompts side by side in a LaTeX table of metrics
_NOTE = (
    "Estimates on fresh seeds and held-out real images, 95 % intervals in brackets. Score: difference from "
    "the baseline prompt on the same seeds, in standard deviations of its images. =: cannot be told apart "
    "from the first; *: unreliable at this number of images."
)

_SAID_BY_VERDICT = "better_than_baseline"  # a column of the table in files alone


def to_csv(best: BestList) -> str:
    """One line a prompt: every estimate with all its parts, settings, generator and seeds.

    Text that a spreadsheet would compute has an apostrophe before it (`formatting.escapes.csv_text`).
    """
    studies = [(study, row) for lists in best.categories.values() for study in lists for row in rows(study)]
    scalars = list(dict.fromkeys(name for _, row in studies for name in row.scalars))
    head = [
        "category",
        "study",
        "rank",
        "baseline",
        "prompt",
        "negative_prompt",
        "generation_parameters",
        "weight",
    ]
    tail = [
        "generator",
        "generator_fingerprint",
        "data",
        "study_seed",
        "confirmation_seeds",
        "study_settings",
    ]
    lines: list[list[object]] = []
    for study, row in studies:
        network = study.drawn_with(row.generation_parameters)
        lines.append(
            [
                study.category,
                study.study,
                row.rank,
                row.is_baseline,
                row.prompt,
                row.negative_prompt,
                _json(row.generation_parameters) if row.generation_parameters else None,
                row.weight,
                row.tied,
                *(row.scalars.get(name) for name in scalars),
                network.uri,
                network.fingerprint,
                study.data,
                study.seeds.study,
                " ".join(map(str, study.seeds.confirmation)),
                _json(study.settings),
            ]
        )
    heads = [*head, "tied_with_first", *scalars, *tail]
    return csv_table(heads, lines, [row.estimates for _, row in studies], exact=True)


def to_markdown(best: BestList) -> str:
    """One table a study."""
    lines = ["# Best prompts", "", markdown(_NOTE), ""]
    for category, lists in best.categories.items():
        lines += [f"## {markdown(category)}", ""]
        for study in lists:
            shown = rows(study)
            metrics, scalars = _names(shown)
            heads = ["rank", "prompt", "weight", *metrics, *scalars]
            lines += [f"### {markdown(study.study)}", ""]
            lines.append("| " + " | ".join(markdown(_words(head)) for head in heads) + " |")
            lines.append("| " + " | ".join("---" if h == "prompt" else "---:" for h in heads) + " |")
            for row in shown:
                cells = [
                    _rank(row),
                    _prompt(row),
                    _weight(row),
                    *(in_cell(row.estimates.get(name)) for name in metrics),
                    *(_claimed(row, name) for name in scalars),
                ]
                lines.append("| " + " | ".join(markdown(cell) for cell in cells) + " |")
            lines += ["", *(f"- {markdown(line)}" for line in _facts(study)), ""]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(best: BestList) -> str:
    """Two tables a study, the prompts and their metrics; needs ``\\usepackage{array,booktabs,graphicx}``."""
    tables = [NEEDS + "\n"]
    for category, lists in best.categories.items():
        for study in lists:
            label = f"{category}-{study.study}"
            label = "".join(c if c.isalnum() else "-" for c in label) if label.isascii() else slug(label)
            tables.append(_prompt_table(study, label))
            tables += _metric_tables(study, label)
    return "\n".join(tables)


def _prompt_table(study: PromptList, label: str) -> str:
    facts = " ".join(f"{fact}." for fact in _facts(study))
    body = []
    for row in rows(study):
        cells = [
            latex(_rank(row)),
            latex(_prompt(row)),
            f"{row.weight:.2f}" if row.weight else "--",
            _stacked(row.estimates.get("score")),
        ]
        body.append(_line(cells))
    return latex_table(
        f"Best prompts for {study.category} (study {study.study}). {_NOTE} {facts}",
        label=f"prompts-{label}",
        columns=rf"r{PROSE}{{0.5\linewidth}}rr",
        heads=[_line(["Rank", "Prompt", "Weight", "Score"])],
        body=body,
    )


def _metric_tables(study: PromptList, label: str) -> list[str]:
    """Metrics as lines, prompts as columns, so that any number of metrics fits on a page."""
    shown = rows(study)
    metrics, scalars = _names(shown)
    tables: list[str] = []
    for start in range(0, len(shown), _COLUMNS):
        part = shown[start : start + _COLUMNS]
        body = []
        for name in metrics:
            body.append(_line([latex(_words(name)), *(_stacked(row.estimates.get(name)) for row in part)]))
        for name in scalars:
            cells = [_words(name), *(_claimed(row, name) for row in part)]
            body.append(_line([latex(cell) for cell in cells]))
        tables.append(
            latex_table(
                f"Estimates of the prompts for {study.category} by rank (study {study.study}).",
                label=f"metrics-{label}-{start // _COLUMNS + 1}",
                columns="l" + "r" * len(part),
                heads=[_line(["Metric", *(latex(_rank(row)) for row in part)])],
                body=body,
            )
        )
    return tables


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _facts(study: PromptList) -> list[str]:
    """What stands below a study's table."""
    generator = f"Generator {study.generator.fingerprint[:12]}"
    if study.generators:
        named = (f"{name} {one.fingerprint[:12]}" for name, one in study.generators.items())
        generator = f"Generators {', '.join(named)}"
    settings = study.settings.get("generator", {})
    used = [f"{key} {settings[key]}" for key in ("steps", "guidance", "scheduler") if key in settings]
    return [
        f"{study.prompts_scored} of {study.prompts_in_space} prompts scored",
        f"Weights: {study.weights_note}",
        *([] if not study.tied else [_best(len(study.tied))]),
        ", ".join([generator, *used]),
        f"Study seed {study.seeds.study}, {len(study.seeds.confirmation)} confirmation seeds",
    ]


def _best(tied: int) -> str:
    return f"{tied} prompts may be the best" if tied != 1 else "One prompt is the best"


def _names(shown: Sequence[Row]) -> tuple[list[str], list[str]]:
    metrics = dict.fromkeys(name for row in shown for name in row.estimates)
    scalars = dict.fromkeys(name for row in shown for name in row.scalars if name != _SAID_BY_VERDICT)
    return list(metrics), list(scalars)


def _rank(row: Row) -> str:
    if row.rank is None:
        return "baseline" if row.is_baseline else "set"
    return f"{row.rank}{' =' if row.tied and row.rank > 1 else ''}"


def _prompt(row: Row) -> str:
    shown = Candidate(row.prompt, row.negative_prompt, row.generation_parameters).label
    return f"{shown} (baseline)" if row.is_baseline and row.rank is not None else shown


def _weight(row: Row) -> str:
    return f"{row.weight:.2f}" if row.weight else "-"


def _stacked(estimate: EstimateEntry | None) -> str:
    value, interval = value_and_interval(estimate)
    return stacked(value, interval) if value else "--"


def _claimed(row: Row, name: str) -> str:
    value = row.scalars.get(name)
    if value is None or (row.is_baseline and isinstance(value, bool)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", ": ")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
