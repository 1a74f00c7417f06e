"""What the score is worth: how well the networks behind it know the category on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.estimate import Estimate
from evaluation.metrics.auroc import auroc
from evaluation.report.calibration import FLOOR
from promptopt.base.images import read_image

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from promptopt.scoring.objective import Objective
    from promptopt.study.measuring import Objectives
    from promptopt.study.setup import Setup

_MOST_JUDGED = 200  # real images that the judge reads


@dataclass(frozen=True)
class CalibrationRow:
    """One instrument: what it is, what was measured of it, on real images."""

    instrument: str
    measure: str
    estimate: Estimate
    guessing: float | None = None


def calibration_rows(setup: Setup, objectives: Objectives) -> list[CalibrationRow]:
    """AUROC and accuracy of every instrument on the test pool's real images, near-duplicates grouped."""
    rows = _of_encoder("Search encoder", objectives.confirming, _groups(setup))
    if objectives.second is not None:
        rows += _of_encoder("Second encoder", objectives.second, _groups(setup))
    if setup.judge is not None:
        rows.append(_of_judge(setup.judge, setup))
    return rows


def _groups(setup: Setup) -> list[str]:
    parts = (setup.positives, setup.negatives)
    return [record.group for part in parts for record in part.where(pool="test")]


def _of_encoder(name: str, objective: Objective, groups: Sequence[str]) -> list[CalibrationRow]:
    real = objective.held_out
    values = objective.contributions(real.features)
    rows = []
    if "alignment" in values:
        found = auroc(values["alignment"], real.labels, groups=groups)
        rows.append(CalibrationRow(name, "Alignment: AUROC, by the fixed texts alone", found, 0.5))
    found = auroc(values["utility"], real.labels, groups=groups)
    rows.append(CalibrationRow(name, "Utility: AUROC of the linear classifier", found, 0.5))
    chance = float(max(real.labels.mean(), 1 - real.labels.mean()))
    if objective.probe is not None:
        right = objective.probe.accuracy(real.features, real.labels)
        rows.append(CalibrationRow(name, "Utility: accuracy of the linear classifier", right, chance))
    return rows


def _of_judge(judge: Judge, setup: Setup) -> CalibrationRow:
    paths = setup.positives.where(pool="test").paths()
    paths = paths[:: max(1, -(-len(paths) // _MOST_JUDGED))]
    images = [read_image(path) for path in paths]
    names = list(judge.names["category"])
    answers = np.asarray(judge.read(images).category_probabilities).argmax(axis=1)
    right = int((answers == names.index(setup.category.name)).sum())
    return CalibrationRow(
        "Judge",
        "Share of real images of the category that it recognizes",
        Estimate.of_proportion(right, len(paths)),
        1 / len(names),
    )


def calibration_sentence(rows: Sequence[CalibrationRow], *, images: str = "real images") -> str:
    """Whether the search's encoder may judge the category, by its lowest AUROC."""
    own = [row for row in rows if row.instrument == "Search encoder" and "AUROC" in row.measure]
    known = [row for row in own if row.estimate.value is not None]
    if len(known) < len(own) or not known:
        return f"How well the search's encoder knows the category on {images} could not be measured."
    worst = min(known, key=lambda row: row.estimate.value or 0.0)
    value, low = worst.estimate.value or 0.0, worst.estimate.low
    term = worst.measure.split(":")[0].lower()
    said = "The term of the score" if len(own) == 1 else "The weaker term of the score"
    said += f", {term}, tells {images} of the category from others with an AUROC of {value:.2f}"
    said += f" ({low:.2f} to {worst.estimate.high:.2f})" if low is not None else ""
    said += "; 0.5 is guessing, 1 perfect."
    if value < FLOOR:
        return (
            said + f" That is below {FLOOR:g}: this encoder hardly knows the category, so distrust the score."
        )
    if low is not None and low < FLOOR:
        return said + f" It may be as low as {low:.2f}: lean on the judge and on your own eyes."
    return said + f" The score therefore means something, as far as these {images} resemble yours."
