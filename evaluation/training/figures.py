"""Figures of merit for a trained network, as Estimates, and the card that shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from evaluation.estimate import Estimate
from promptopt.base.files import write_json

METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"


def share(hits: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of true values, with Wilson's score interval (Wilson 1927); undefined for none."""
    values = np.asarray(hits, dtype=bool)
    n, method = int(values.size), f"Wilson {level:.0%}"
    if n == 0:
        return Estimate.undefined(0, method)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = float(values.mean())
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = min(max(0.0, middle - half), p), max(min(1.0, middle + half), p)
    return Estimate(value=p, low=low, high=high, n=n, method=method, status="ok")


def auroc(scores: NDArray[np.float64], positive: NDArray[np.bool_], *, level: float = 0.95) -> Estimate:
    """Area under the ROC curve, with the interval of Hanley and McNeil (1982); undefined for one class
    only."""
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    method = f"AUROC, Hanley-McNeil {level:.0%}"
    if n_pos == 0 or n_neg == 0:
        return Estimate.undefined(len(scores), method)
    ranks = rankdata(scores)
    area = float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    rest = area * (1 - area) + (n_pos - 1) * (q1 - area**2) + (n_neg - 1) * (q2 - area**2)
    half = NormalDist().inv_cdf(0.5 + level / 2) * (max(rest, 0.0) / (n_pos * n_neg)) ** 0.5
    # With no error seen the formula gives an interval of width zero; a handful of pictures cannot promise
    # that.
    status: Any = "ok" if min(n_pos, n_neg) >= 10 and 0 < area < 1 else "unreliable"
    return Estimate(
        value=area,
        low=max(0.0, area - half),
        high=min(1.0, area + half),
        n=len(scores),
        method=method,
        status=status,
    )


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
