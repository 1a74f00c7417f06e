"""What a proof says, in words, tables and a picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.classifier.results import MAIN, ArmRow, Comparison
from evaluation.estimate import Estimate
from promptopt.augmentation.proof.proof import (
    AGAINST,
    AGAINST_BESIDE,
    ALONE,
    BESIDE,
    CLASSICAL,
    ELSEWHERE,
    Proof,
    to_dict,
)
from promptopt.base.files import write_json, write_text
from promptopt.formatting.charts import COLORS, Panel, Series, forest_plot, save_figure
from promptopt.formatting.numbers import p_value, points
from promptopt.formatting.tables import csv_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEARNERS = {"network": "a small network trained on pixels", "probe": "a linear probe on fixed features"}

_TITLES = {
    "set": "the set",
    "learned": "the learned template",
    "baseline": "the baseline prompt",
    "random": "random prompts",
    "single": "the single best prompt",
    "captions": "captions of the real images",
}
_RECALL, _ECE = "recall:", "ece"


def verdict(proof: Proof) -> list[str]:
    """Plain sentences, one for each number of real images, question and learner; then the notes."""
    lines = []
    result = proof.result
    images = result.rows[0].test_images
    for learner in result.settings["learners"]:
        lines.append(f"{_LEARNERS.get(learner, learner)}, {images} real test images:".capitalize())
        for count in result.settings["real_per_class"]:
            own = [c for c in result.comparisons if (c.learner, c.first.per_class) == (learner, count)]
            lines.append(f"  {_amount(count)}: {_sentence(own)}")
    return [*lines, *(f"Note: {note}" for note in proof.notes)]


def _sentence(own: Sequence[Comparison]) -> str:
    parts = [_answer("synthetic images", [c for c in own if c.question == ALONE], "over real images alone")]
    for one in own:
        if one.question == CLASSICAL:
            parts.append(f"classical augmentation alone {_change(one)}")
    if beside := [c for c in own if c.question == BESIDE]:
        parts.append(_answer("synthetic images beside classical augmentation", beside, "over it alone"))
    for question, also in ((AGAINST, ""), (AGAINST_BESIDE, ", both beside classical augmentation")):
        for name in dict.fromkeys(c.second.synthetic for c in own if c.question == question):
            rivals = [c for c in own if c.question == question and c.second.synthetic == name]
            first = str(rivals[0].first.synthetic)
            over = f"over {_TITLES.get(str(name), str(name))}{also}"
            parts.append(_answer(_TITLES.get(first, first), rivals, over))
    for one in own:
        if one.question == ELSEWHERE and not one.first.classical:
            what = "the generator's own training images" if one.first.synthetic == ELSEWHERE else "the set"
            over = "over real images alone" if one.first.synthetic == ELSEWHERE else "beside these"
            parts.append(f"{what} {_change(one)} {over}")
    return "; ".join(parts) + "."


def _answer(what: str, family: Sequence[Comparison], over: str) -> str:
    better = [c for c in family if c.differences[MAIN].verdict == "better"]
    worse = [c for c in family if c.differences[MAIN].verdict == "worse"]
    shown = max(better or family, key=_value)
    one = family[0].question in (AGAINST, AGAINST_BESIDE)
    verb = (
        ("is better", "is worse", "shows no clear difference")
        if one
        else ("help", "hurt", "show no clear effect")
    )
    if better and worse:
        worst = min(worse, key=_value)
        said = (
            f"{what} {verb[0]} at one ratio and the contrary at another: {_change(shown)}, {_change(worst)}"
        )
    elif better:
        said = f"{what} {verb[0]}: {_change(shown)}"
    elif worse:
        said = f"{what} {verb[1]}: {_change(min(worse, key=_value))}"
    else:
        said = f"{what} {verb[2]}, at best {_change(shown)}"
        worst = min(family, key=_value)
        high = worst.differences[MAIN].estimate.high
        if worst is not shown and high is not None and high < 0:
            said += f", at worst {_change(worst)}"
    return f"{said} {over}"


def _value(one: Comparison) -> float:
    return one.differences[MAIN].estimate.value or 0.0


def _change(one: Comparison) -> str:
    at = "" if one.first.ratio is None else f" at 1:{one.first.ratio:g}"
    main = one.differences[MAIN]
    return f"{points(main.estimate)} points{at}, p {p_value(main.p_holm)}"


def _amount(count: int | None) -> str:
    return "all real images" if count is None else f"{count} real images a class"


def markdown(proof: Proof) -> str:
    """Two tables: the arms, with each class's recall and the calibration error; and the differences."""
    classes = proof.result.classes
    heads = ["balanced accuracy", *(f"recall of {name}" for name in classes)]
    columns = [MAIN, *(f"{_RECALL}{name}" for name in classes)]
    rows: list[list[str]] = [["learner", "real images", "trained on", "images", *heads, "calibration error"]]
    for row in proof.result.rows:
        images = f"{row.train_real} + {row.train_synthetic}"
        scores = [points(row.estimates[name], sign="") for name in columns]
        ece = points(row.estimates[_ECE], sign="")
        rows.append([row.learner, _amount(row.arm.per_class), row.title, images, *scores, ece])
    text = _lines(rows)
    rows = [["learner", "real images", "difference", "points", *heads[1:], "p (Holm)"]]
    for one in proof.result.comparisons:
        names = f"{one.first.title} minus {one.second.title}"
        changes = [points(one.differences[name].estimate) for name in columns if name in one.differences]
        changes += ["-"] * (len(columns) - len(changes))
        p = p_value(one.differences[MAIN].p_holm)
        rows.append([one.learner, _amount(one.first.per_class), names, *changes, p])
    return f"{text}\n{_lines(rows)}"


def _lines(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "| --- " * len(rows[0]) + "|", *body]) + "\n"


def write_proof(proof: Proof, folder: Path) -> list[Path]:
    """proof.json, proof.csv, proof.md (tables and verdict) and proof.png, each whole or not at all."""
    document = {**to_dict(proof), "verdict": verdict(proof)}
    said = "\n".join(f"{'  ' * line.startswith(' ')}- {line.strip()}" for line in document["verdict"])
    return [
        write_json(folder / "proof.json", document, allow_nan=False),
        write_text(folder / "proof.csv", _table(proof)),
        write_text(folder / "proof.md", f"{markdown(proof)}\n{said}\n"),
        save_figure(chart(proof), folder / "proof.png"),
    ]


def _table(proof: Proof) -> str:
    """One line for each arm (`minus` empty) and each difference."""
    rows: list[list[object]] = [
        [r.learner, r.arm.per_class, r.title, "", r.train_real, r.train_synthetic, None, None]
        for r in proof.result.rows
    ]
    estimates = [{"": r.estimates[MAIN]} for r in proof.result.rows]
    for one in proof.result.comparisons:
        main = one.differences[MAIN]
        names = [one.learner, one.first.per_class, one.first.title, one.second.title]
        rows.append([*names, None, None, main.p, main.p_holm])
        estimates.append({"": main.estimate})
    heads = ["learner", "real_per_class", "trained_on", "minus", "train_real", "train_synthetic"]
    return csv_table([*heads, "p", "p_holm"], rows, estimates)


def chart(proof: Proof) -> Figure:
    """Accuracies with intervals: a panel for each learner and number of real images, one line a ratio."""
    settings = proof.result.settings
    ratios = [None, *settings["ratios"]]
    panels = []
    for learner in settings["learners"]:
        for count in settings["real_per_class"]:
            own = [r for r in proof.result.rows if (r.learner, r.arm.per_class) == (learner, count)]
            names = dict.fromkeys(row.arm.name for row in own)
            series = [
                Series(name, color, [_of_ratio(own, name, ratio) for ratio in ratios])
                for name, color in zip(names, itertools.cycle(COLORS), strict=False)
            ]
            lines = ["no synthetic images" if r is None else f"real to synthetic 1:{r:g}" for r in ratios]
            panels.append(Panel(f"{learner}, {_amount(count)}", lines, series))
    axis = "balanced accuracy on real test images (%), with 95 % interval"
    return forest_plot(panels, axis, scale=100, zero=False)


def _of_ratio(rows: Sequence[ArmRow], name: str, ratio: float | None) -> Estimate | None:
    for row in rows:
        if (row.arm.name, row.arm.ratio) == (name, ratio):
            return row.estimates[MAIN] if row.estimates[MAIN].value is not None else None
    return None
