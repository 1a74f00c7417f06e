"""Two encoder families on the same images: does the second confirm what the first one sees?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.estimate import Estimate
from evaluation.metrics.alignment import margins
from evaluation.metrics.judge_gap import judge_gap
from evaluation.metrics.mmd import RELIABLE_FROM
from evaluation.report.measures import Judge, Measured
from evaluation.report.slices import Part
from evaluation.report.table import Row

Features = NDArray[np.float32]
Matrix = NDArray[np.float64]

BLOCK = 1024
"""Rows of the kernel matrices held at a time."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Both sets in one encoder's space, and how well that encoder knows the categories."""

    measured: Measured
    generated: Features
    judge: Judge | None


def gap_rows(
    first: Seen,
    second: Seen,
    shown: tuple[Sequence[str] | None, Sequence[str] | None],
    parts: Sequence[Part],
    *,
    allow_uncalibrated: bool,
    level: float,
) -> list[Row]:
    """For each part, by how much the first encoder sees the generated images nearer to what they should be.

    In alignment: the margin of generated images over that of the real ones of their categories, in SDs of the
    real ones, under the first encoder minus under the second. In distance: RBF-MMD^2 under the second minus
    under the first (both have a kernel of the real images' own median width, so the units are the same).
    Above 0, the first encoder is flattered: an optimizer that used it may have found its weak side.

    Args:
        shown: category of each real image and of each generated one; None where not known.
    """
    names = f"{first.measured.label} against {second.measured.label}"
    rows = []
    for part in parts:
        sizes = len(part.of_real), len(part.of_generated)
        for what, estimate in (
            ("alignment gap", _alignment(first, second, shown, part, allow_uncalibrated, level)),
            ("RBF-MMD² gap", _distance(first, second, part, level)),
        ):
            name = f"{what} ({names})"
            uri = first.measured.encoder.uri
            rows.append(Row("gap", name, uri, part.name, "lower", *sizes, part.marked(estimate)))
    return rows


def _alignment(
    first: Seen,
    second: Seen,
    shown: tuple[Sequence[str] | None, Sequence[str] | None],
    part: Part,
    allow_uncalibrated: bool,
    level: float,
) -> Estimate:
    method = "alignment gap"
    n = len(part.of_generated)
    real, generated = shown
    if real is None or generated is None:
        return Estimate.undefined(n, f"{method}: both sets must say the categories of their images")
    targets = {generated[i] for i in part.of_generated}
    compared = np.array([i for i in part.of_real if real[i] in targets], dtype=np.intp)
    absent = sorted(targets - {real[i] for i in compared})
    if absent or not targets:
        return Estimate.undefined(n, f"{method}: no real image of {absent[0] if absent else 'this part'!r}")
    values = []
    sure = True
    for seen in (first, second):
        judge, label = seen.judge, seen.measured.label
        if judge is None:
            return Estimate.undefined(n, f"{method}: {label} reads no texts, or none were given")
        without = sorted(targets - set(judge.weights))
        if without:
            return Estimate.undefined(n, f"{method}: no texts for the category {without[0]!r}")
        passes = {name: judge.calibration is not None and judge.calibration.passes(name) for name in targets}
        failed = sorted(name for name, well in passes.items() if not well)
        if failed and judge.calibration is not None and not allow_uncalibrated:
            known = judge.calibration.auroc[failed[0]].value
            if known is not None:
                floor = judge.calibration.floor
                reason = f"refused, AUROC of {failed[0]!r} in {label} {known:.3f}, floor {floor:g}"
                return Estimate.undefined(n, f"{method}: {reason}")
        sure = sure and not failed
        values.append(_margins(seen.generated, generated, part.of_generated, judge))
        values.append(_margins(seen.measured.real, real, compared, judge))
    gap = judge_gap(
        values[0],
        values[2],
        baseline_search=values[1],
        baseline_held_out=values[3],
        paired=False,
        level=level,
    ).gap
    method = "margin over that of real images of the category, in their SDs: first encoder minus second"
    status = gap.status if sure or gap.status == "undefined" else "unreliable"
    return replace(gap, method=method if sure else f"{method}; judge not calibrated", status=status)


def _margins(
    features: Features, shown: Sequence[str], rows: NDArray[np.intp], judge: Judge
) -> NDArray[np.float64]:
    """Each image's margin of its own category, in the order of `rows`."""
    names = np.array([shown[i] for i in rows], dtype=object)
    values = np.empty(len(rows))
    for name in sorted(set(names.tolist())):
        own = np.flatnonzero(names == name)
        values[own] = margins(features[rows[own]], judge.weights[name], target=name)
    return values


def _distance(first: Seen, second: Seen, part: Part, level: float) -> Estimate:
    """MMD is linear in the kernel: the difference of two is the MMD of the difference of their kernels."""
    method = "RBF-MMD^2 in the second space minus that in the first, U-statistic of the kernels' difference"
    widths = first.measured.bandwidth, second.measured.bandwidth
    if widths[0] is None or widths[1] is None:
        return Estimate.undefined(len(part.of_generated), f"{method}: no bandwidth")
    made, real = (
        [np.asarray(rows[own], dtype=np.float64) for rows in spaces]
        for spaces, own in (
            ((first.generated, second.generated), part.of_generated),
            ((first.measured.real, second.measured.real), part.of_real),
        )
    )
    if min(len(made[0]), len(real[0])) < 2:
        return Estimate.undefined(min(len(made[0]), len(real[0])), method)
    # each in units of its kernel; near the origin a product of matrices loses nothing to cancellation
    x, y = (
        [(a - r.mean(axis=0)) / width for a, r, width in zip(rows, real, widths, strict=True)]
        for rows in (made, real)
    )
    return _difference(x, y, level=level, method=method)


def _difference(x: Sequence[Matrix], y: Sequence[Matrix], *, level: float, method: str) -> Estimate:
    """The U-statistic with the kernel of the second space less that of the first.

    Its interval is that of the first-order projection, 4 var(u) / n + 4 var(v) / m with Welch's degrees of
    freedom: the kernel's difference is not positive, so that of `mmd` itself does not apply.
    """
    from scipy.special import stdtrit

    of_x, of_y = _row_means(x, y), _row_means(y, x)
    value = float(of_x[0].mean() + of_y[0].mean() - of_x[1].mean() - of_y[1].mean())
    parts = [(4 * float(np.var(own - other, ddof=1)) / len(own), len(own)) for own, other in (of_x, of_y)]
    variance, n = sum(part for part, _ in parts), min(len(own) for own, _ in (of_x, of_y))
    if variance <= 0:
        return Estimate(value, None, None, n, method, "unreliable")
    freedom = variance**2 / sum(part**2 / (size - 1) for part, size in parts)
    half = float(stdtrit(freedom, (1 + level) / 2)) * variance**0.5
    return Estimate(
        value, value - half, value + half, n, method, "ok" if n >= RELIABLE_FROM else "unreliable"
    )


def _row_means(x: Sequence[Matrix], y: Sequence[Matrix]) -> tuple[Matrix, Matrix]:
    """Of each image of x the mean kernel difference with the others of x, and with y."""
    n = len(x[0])
    own, other = np.empty(n), np.empty(n)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        gram = _gaussian(x[1][start:stop], x[1]) - _gaussian(x[0][start:stop], x[0])
        gram[np.arange(stop - start), np.arange(start, stop)] = 0.0
        own[start:stop] = gram.sum(axis=1) / (n - 1)
        gram = _gaussian(x[1][start:stop], y[1]) - _gaussian(x[0][start:stop], y[0])
        other[start:stop] = gram.mean(axis=1)
    return own, other


def _gaussian(a: Matrix, b: Matrix) -> Matrix:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / 2))
