"""What a proof says, in words, tables and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.classifier.results import MAIN, ArmRow, Comparison
from evaluation.estimate import Estimate
from promptopt.augmentation.proof.proof import AGAINST, ALONE, BESIDE, CLASSICAL, Proof, to_dict
from promptopt.base.files import new_file, write_json, write_text
from promptopt.formatting.points import points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = {None: "#6b6b6b", "portfolio": "#3b82c4", "baseline": "#d97706", "random": "#4d9f5b"}
_LEARNERS = {"network": "a small network trained on pixels", "probe": "a linear probe on fixed features"}


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
    for name in dict.fromkeys(c.second.synthetic for c in own if c.question == AGAINST):
        rivals = [c for c in own if c.question == AGAINST and c.second.synthetic == name]
        parts.append(_answer("the portfolio", rivals, f"over the {name} prompt{'s' * (name == 'random')}"))
    return "; ".join(parts) + "."


def _answer(what: str, family: Sequence[Comparison], over: str) -> str:
    better = [c for c in family if c.differences[MAIN].verdict == "better"]
    worse = [c for c in family if c.differences[MAIN].verdict == "worse"]
    shown = max(better or family, key=_value)
    verb = {"the portfolio": ("is better", "is worse", "shows no clear difference")}.get(
        what, ("help", "hurt", "show no clear effect")
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
    return f"{points(main.estimate)} points{at}, p {_p(main.p_holm)}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _amount(count: int | None) -> str:
    return "all real images" if count is None else f"{count} real images a class"


def markdown(proof: Proof) -> str:
    """Two tables: the arms, and the differences."""
    lines = ["| learner | real images | trained on | images | balanced accuracy |", "| --- " * 5 + "|"]
    for row in proof.result.rows:
        lines.append(
            f"| {row.learner} | {_amount(row.arm.per_class)} | {row.title} | "
            f"{row.train_real} + {row.train_synthetic} | {points(row.estimates[MAIN], sign='')} |"
        )
    lines += ["", "| learner | real images | difference | points | p (Holm) |", "| --- " * 5 + "|"]
    for one in proof.result.comparisons:
        main = one.differences[MAIN]
        lines.append(
            f"| {one.learner} | {_amount(one.first.per_class)} | {one.first.title} minus "
            f"{one.second.title} | {points(main.estimate)} | {_p(main.p_holm)} |"
        )
    return "\n".join(lines) + "\n"


def write_proof(proof: Proof, folder: Path) -> list[Path]:
    """proof.json, proof.csv, proof.md (tables and verdict) and proof.png, each whole or not at all."""
    document = {**to_dict(proof), "verdict": verdict(proof)}
    picture = folder / "proof.png"
    with new_file(picture) as partial:
        chart(proof).savefig(partial, format="png", dpi=150)
    said = "\n".join(f"{'  ' * line.startswith(' ')}- {line.strip()}" for line in document["verdict"])
    return [
        write_json(folder / "proof.json", document, allow_nan=False),
        write_text(folder / "proof.csv", _table(proof)),
        write_text(folder / "proof.md", f"{markdown(proof)}\n{said}\n"),
        picture,
    ]


def _table(proof: Proof) -> str:
    """One line for each arm (`minus` empty) and each difference."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["learner", "real_per_class", "trained_on", "minus", "train_real", "train_synthetic", "value", "low",
         "high", "status", "p", "p_holm"]
    )  # fmt: skip
    for row in proof.result.rows:
        writer.writerow(
            [row.learner, row.arm.per_class, row.title, "", row.train_real, row.train_synthetic,
             *_numbers(row.estimates[MAIN]), "", ""]
        )  # fmt: skip
    for one in proof.result.comparisons:
        main = one.differences[MAIN]
        writer.writerow(
            [one.learner, one.first.per_class, one.first.title, one.second.title, "", "",
             *_numbers(main.estimate), main.p, main.p_holm]
        )  # fmt: skip
    return stream.getvalue()


def _numbers(estimate: Estimate) -> list[Any]:
    values = (estimate.value, estimate.low, estimate.high)
    return [*("" if value is None else f"{value:.6g}" for value in values), estimate.status]


def chart(proof: Proof) -> Figure:
    """Accuracies with intervals: a panel for each learner and number of real images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = proof.result.settings
    learners, counts, ratios = list(settings["learners"]), settings["real_per_class"], settings["ratios"]
    figure = Figure(figsize=(1.2 + 3.9 * len(counts), 0.9 + 3.4 * len(learners)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(learners), len(counts), squeeze=False, sharey="row")
    for line, learner in zip(panels, learners, strict=True):
        for axes, count in zip(line, counts, strict=True):
            own = [r for r in proof.result.rows if (r.learner, r.arm.per_class) == (learner, count)]
            _panel(axes, own, ratios)
            axes.set_title(f"{learner}, {_amount(count)}", fontsize=10)
        line[0].set_ylabel("balanced accuracy on real test images (%)", fontsize=9)
    handles: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    return figure


def _panel(axes: Any, rows: Sequence[ArmRow], ratios: Sequence[float]) -> None:
    series = list(dict.fromkeys((r.arm.classical, r.arm.synthetic) for r in rows))
    shift = 0.7 / max(len(series) - 1, 1)
    for index, (classical, variant) in enumerate(series):
        own = [r for r in rows if (r.arm.classical, r.arm.synthetic) == (classical, variant)]
        for one in own:
            value = one.estimates[MAIN]
            if value.value is None:
                continue
            place = 0 if one.arm.ratio is None else 1 + list(ratios).index(one.arm.ratio)
            x = place + (index - (len(series) - 1) / 2) * shift
            low, high = (value.value if end is None else end for end in (value.low, value.high))
            axes.errorbar(
                x,
                100 * value.value,
                yerr=[[100 * (value.value - low)], [100 * (high - value.value)]],
                fmt="s" if classical else "o",
                markerfacecolor="white" if classical else _COLORS.get(variant, "#9c5bb5"),
                color=_COLORS.get(variant, "#9c5bb5"),
                capsize=3,
                linewidth=1.2,
                markersize=6,
                label=one.arm.name,
            )
    for one in rows:
        value = one.estimates[MAIN]
        if one.arm.synthetic is None and value.value is not None:
            style = "--" if one.arm.classical else "-"
            axes.axhline(100 * value.value, color="#b0b0b0", linewidth=0.8, linestyle=style, zorder=0)
    axes.set_xticks(range(1 + len(ratios)), ["none", *(f"1:{ratio:g}" for ratio in ratios)])
    axes.set_xlabel("real to synthetic images", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e2e2", linewidth=0.6)
    axes.set_axisbelow(True)
