"""What a proof says, in words, tables and a picture."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.estimate import Estimate
from promptopt.augmentation.proof.proof import (
    AGAINST,
    ALONE,
    BESIDE,
    CLASSICAL,
    ArmResult,
    Comparison,
    Proof,
    to_dict,
)
from promptopt.formatting.charts import COLORS, Panel, Series, forest_plot, save_figure
from promptopt.formatting.numbers import p_value, points
from promptopt.formatting.tables import csv_table
from promptopt.run.folder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEARNERS = {"network": "a small network trained on pixels", "probe": "a linear probe on fixed features"}


def verdict(proof: Proof) -> list[str]:
    """Plain sentences, one for each number of real images, question and learner; then the notes."""
    lines = []
    for learner in proof.settings["learners"]:
        lines.append(f"{_LEARNERS.get(learner, learner)}, {proof.test_images} real test images:".capitalize())
        for count in proof.settings["real_per_class"]:
            own = [c for c in proof.comparisons if (c.learner, c.real_per_class) == (learner, count)]
            lines.append(f"  {_amount(count)}: {_sentence(own)}")
    return [*lines, *(f"Note: {note}" for note in proof.notes)]


def _sentence(own: Sequence[Comparison]) -> str:
    parts = [_answer("synthetic images", [c for c in own if c.question == ALONE], "over real images alone")]
    for one in own:
        if one.question == CLASSICAL:
            parts.append(f"classical augmentation alone {_change(one)}")
    if beside := [c for c in own if c.question == BESIDE]:
        parts.append(_answer("synthetic images beside classical augmentation", beside, "over it alone"))
    for name in dict.fromkeys(c.second.variant for c in own if c.question == AGAINST):
        rivals = [c for c in own if c.question == AGAINST and c.second.variant == name]
        parts.append(_answer("the portfolio", rivals, f"over the {name} prompt{'s' * (name == 'random')}"))
    return "; ".join(parts) + "."


def _answer(what: str, family: Sequence[Comparison], over: str) -> str:
    better = [c for c in family if c.verdict == "better"]
    worse = [c for c in family if c.verdict == "worse"]
    shown = max(better or family, key=lambda c: c.estimate.value or 0.0)
    verb = {"the portfolio": ("is better", "is worse", "shows no clear difference")}.get(
        what, ("help", "hurt", "show no clear effect")
    )
    if better and worse:
        worst = min(worse, key=lambda c: c.estimate.value or 0.0)
        said = (
            f"{what} {verb[0]} at one ratio and the contrary at another: {_change(shown)}, {_change(worst)}"
        )
    elif better:
        said = f"{what} {verb[0]}: {_change(shown)}"
    elif worse:
        said = f"{what} {verb[1]}: {_change(min(worse, key=lambda c: c.estimate.value or 0.0))}"
    else:
        said = f"{what} {verb[2]}, at best {_change(shown)}"
        worst = min(family, key=lambda c: c.estimate.value or 0.0)
        if worst is not shown and worst.estimate.high is not None and worst.estimate.high < 0:
            said += f", at worst {_change(worst)}"
    return f"{said} {over}"


def _change(one: Comparison) -> str:
    at = "" if one.first.ratio is None else f" at 1:{one.first.ratio:g}"
    return f"{points(one.estimate)} points{at}, p {p_value(one.p_holm)}"


def _amount(count: int | None) -> str:
    return "all real images" if count is None else f"{count} real images a class"


def markdown(proof: Proof) -> str:
    """Two tables: the arms, and the differences."""
    lines = ["| learner | real images | trained on | images | balanced accuracy |", "| --- " * 5 + "|"]
    for one in proof.arms:
        lines.append(
            f"| {one.learner} | {_amount(one.real_per_class)} | {one.arm.title} | "
            f"{one.train_real} + {one.train_synthetic} | {points(one.estimate, sign='')} |"
        )
    lines += ["", "| learner | real images | difference | points | p (Holm) |", "| --- " * 5 + "|"]
    for change in proof.comparisons:
        lines.append(
            f"| {change.learner} | {_amount(change.real_per_class)} | {change.first.title} minus "
            f"{change.second.title} | {points(change.estimate)} | {p_value(change.p_holm)} |"
        )
    return "\n".join(lines) + "\n"


def write_proof(proof: Proof, folder: Path) -> list[Path]:
    """proof.json, proof.csv, proof.md (tables and verdict) and proof.png, each whole or not at all."""
    document = {**to_dict(proof), "verdict": verdict(proof)}
    said = "\n".join(f"{'  ' * line.startswith(' ')}- {line.strip()}" for line in document["verdict"])
    return [
        write_text(folder / "proof.json", json.dumps(document, indent=1, allow_nan=False) + "\n"),
        write_text(folder / "proof.csv", _table(proof)),
        write_text(folder / "proof.md", f"{markdown(proof)}\n{said}\n"),
        save_figure(chart(proof), folder / "proof.png"),
    ]


def _table(proof: Proof) -> str:
    """One line for each arm (`minus` empty) and each difference."""
    rows: list[list[object]] = [
        [one.learner, one.real_per_class, one.arm.title, "", one.train_real, one.train_synthetic, None, None]
        for one in proof.arms
    ]
    rows += [
        [c.learner, c.real_per_class, c.first.title, c.second.title, None, None, c.p, c.p_holm]
        for c in proof.comparisons
    ]
    heads = ["learner", "real_per_class", "trained_on", "minus", "train_real", "train_synthetic"]
    estimates = [{"": a.estimate} for a in proof.arms] + [{"": c.estimate} for c in proof.comparisons]
    return csv_table([*heads, "p", "p_holm"], rows, estimates)


def chart(proof: Proof) -> Figure:
    """Accuracies with intervals: a panel for each learner and number of real images, one line a ratio."""
    panels = []
    ratios = [None, *proof.settings["ratios"]]
    for learner in proof.settings["learners"]:
        for count in proof.settings["real_per_class"]:
            own = [a for a in proof.arms if (a.learner, a.real_per_class) == (learner, count)]
            series = [
                Series(
                    " + ".join(["real", *["classical"] * classical, *([variant] if variant else [])]),
                    color,
                    [_of_ratio(own, classical, variant, ratio) for ratio in ratios],
                )
                for (classical, variant), color in zip(
                    dict.fromkeys((a.arm.classical, a.arm.variant) for a in own),
                    itertools.cycle(COLORS),
                    strict=False,
                )
            ]
            lines = ["no synthetic images" if r is None else f"real to synthetic 1:{r:g}" for r in ratios]
            panels.append(Panel(f"{learner}, {_amount(count)}", lines, series))
    axis = "balanced accuracy on real test images (%), with 95 % interval"
    return forest_plot(panels, axis, scale=100, zero=False)


def _of_ratio(
    arms: Sequence[ArmResult], classical: bool, variant: str | None, ratio: float | None
) -> Estimate | None:
    for one in arms:
        if (one.arm.classical, one.arm.variant, one.arm.ratio) == (classical, variant, ratio):
            return one.estimate if one.estimate.value is not None else None
    return None
