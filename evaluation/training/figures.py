"""Figures of merit for a trained network, as Estimates, and the card that shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evaluation.estimate import Estimate
from promptopt.base.files import write_json

METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"


def share(hits: ArrayLike) -> Estimate:
    """Share of true values (`Estimate.of_proportion`)."""
    values = np.asarray(hits, dtype=bool)
    return Estimate.of_proportion(int(values.sum()), int(values.size))


def write_metrics(folder: Path, *, facts: Mapping[str, Any], figures: Mapping[str, Estimate]) -> Path:
    """Write ``metrics.json``: the facts of the run and its figures."""
    content = {
        **facts,
        "figures": {name: estimate.to_dict() for name, estimate in figures.items()},
    }
    return write_json(folder / METRICS_FILE, content, indent=2, allow_nan=False)


def write_card(
    folder: Path,
    *,
    title: str,
    purpose: str,
    license_id: str,
    facts: Sequence[tuple[str, str]],
    figures: Mapping[str, Estimate],
    notes: Sequence[str] = (),
) -> Path:
    """Write the card ``README.md``: what it is for, what it was made from, how well it does on validation."""
    lines = [
        "---",
        f"license: {license_id}",
        "---",
        "",
        f"# {title}",
        "",
        purpose,
        "",
        "## How it was made",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts]
    lines += ["", "## Validation", "", "| figure | value | interval | n | method |", "|---|---|---|---|---|"]
    for name, e in figures.items():
        value = "undefined" if e.value is None else f"{e.value:.4f}"
        interval = "" if e.low is None or e.high is None else f"{e.low:.4f} to {e.high:.4f}"
        mark = " (unreliable)" if e.status == "unreliable" else ""
        lines.append(f"| {name} | {value}{mark} | {interval} | {e.n} | {e.method} |")
    lines += ["", *notes, ""]
    (folder / CARD_FILE).write_text("\n".join(lines), encoding="utf-8")
    return folder / CARD_FILE
