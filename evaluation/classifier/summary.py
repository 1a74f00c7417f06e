"""From predicted probabilities to rows of Estimates, with differences from R->R."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.images import LabeledImages
from evaluation.classifier.results import ALL, ArmRow, Difference, Run
from evaluation.classifier.scores import METRICS, classifier_scores, confusion, point_scores
from evaluation.estimate import Estimate
from evaluation.inference.bootstrap import (
    FEWEST_GROUPS,
    GroupBootstrap,
    draw_seeds,
    holm,
    interval_estimate,
    p_value,
    share_estimate,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """An arm's classifiers: `probabilities` of the test set, shape (n, k), one array a seed."""

    arm: str
    ratio: float | None
    train_real: int
    train_synthetic: int
    test: str
    probabilities: Sequence[Array]


@dataclass(frozen=True, eq=False)
class _Part:
    """The test images of a scope and their resampling."""

    name: str
    rows: NDArray[np.int64]
    truth: NDArray[np.int64]
    draws: GroupBootstrap


@dataclass(frozen=True, eq=False)
class _Scored:
    """Of every metric the mean over seeds (None: undefined) and its replicates."""

    part: _Part
    values: Mapping[str, float]
    replicates: Mapping[str, Array]


def summarize(
    trained: Sequence[Trained],
    test: Mapping[str, LabeledImages],
    *,
    classes: Sequence[str],
    seeds: Sequence[int],
    by_center: bool,
    resamples: int,
    level: float,
) -> tuple[ArmRow, ...]:
    """One row for each arm and scope; the first of `trained` is R->R, which the others are compared with."""
    scopes = [ALL]
    if by_center:
        scopes += sorted(set(test["real_test"].centers))
    rows: list[ArmRow] = []
    for number, scope in enumerate(scopes):
        parts = {
            name: part
            for index, (name, images) in enumerate(test.items())
            if (part := _part(name, images, scope, classes, resamples, key=[number, index])) is not None
        }
        shares = draw_seeds(len(seeds), resamples=resamples, rng=np.random.default_rng([4, number]))
        done = [
            _row(own, parts[own.test], shares, scope=scope, classes=classes, seeds=seeds, level=level)
            for own in trained
            if own.test in parts
        ]
        base = done[0][1]
        compared = [done[0][0]] + [
            replace(row, differences=_differences(scored, base, row, classes, level))
            for row, scored in done[1:]
        ]
        rows += _adjusted(compared)
    return tuple(rows)


def _part(
    name: str,
    images: LabeledImages,
    scope: str,
    classes: Sequence[str],
    resamples: int,
    *,
    key: Sequence[int],
) -> _Part | None:
    inside = [i for i, center in enumerate(images.centers) if scope in (ALL, center)]
    if not inside:
        return None
    own = images.take(inside)
    draws = GroupBootstrap.draw(
        own.groups, own.labels, resamples=resamples, rng=np.random.default_rng([3, *key])
    )
    place = {label: index for index, label in enumerate(classes)}
    truth = np.array([place[label] for label in own.labels])
    return _Part(name, np.array(inside), truth, draws)


def _row(
    own: Trained,
    part: _Part,
    shares: Array,
    *,
    scope: str,
    classes: Sequence[str],
    seeds: Sequence[int],
    level: float,
) -> tuple[ArmRow, _Scored]:
    kept: dict[int, tuple[dict[str, float], dict[str, Array], Array, Array]] = {}
    singles = []
    for probabilities in own.probabilities:
        if id(probabilities) not in kept:  # seeds that share a classifier share its scores
            p = probabilities[part.rows]
            point = point_scores(classifier_scores(part.truth, p, classes=classes))
            drawn = classifier_scores(part.truth, p, classes=classes, weights=part.draws.weights)
            kept[id(probabilities)] = (
                point,
                drawn,
                confusion(part.truth, p)[0],
                confusion(part.truth, p, part.draws.weights),
            )
        singles.append(kept[id(probabilities)])
    how = f"bootstrap over {part.draws.groups} test groups, {len(shares)} resamples"
    runs = tuple(
        Run(
            seed=seed,
            estimates=_estimates(_Scored(part, point, drawn), classes, f"one seed, {how}", level),
            confusion=tuple(tuple(int(cell) for cell in line) for line in table),
        )
        for seed, (point, drawn, table, _) in zip(seeds, singles, strict=True)
    )
    names = singles[0][0]
    scored = _Scored(
        part,
        {name: float(np.mean([single[0][name] for single in singles])) for name in names},
        {name: _over_seeds([single[1][name] for single in singles], shares) for name in names},
    )
    row = ArmRow(
        arm=own.arm,
        ratio=own.ratio,
        scope=scope,
        train_real=own.train_real,
        train_synthetic=own.train_synthetic,
        test_images=len(part.rows),
        test_groups=part.draws.groups,
        estimates=_estimates(
            scored, classes, f"mean of {len(seeds)} seeds, {how} of groups and seeds", level
        ),
        differences={},
        confusion=_shares(singles, shares, part, classes, level),
        runs=runs,
    )
    return row, scored


def _over_seeds(replicates: Sequence[Array], shares: Array) -> Array:
    """Mean over the seeds drawn in each replicate; `shares` has shape (b, seeds)."""
    return np.einsum("bs,sb...->b...", shares, np.stack(replicates))


def _estimates(scored: _Scored, classes: Sequence[str], how: str, level: float) -> dict[str, Estimate]:
    names = [*METRICS, *(f"recall:{name}" for name in classes)]
    return {name: _estimate(name, scored, classes, how, level) for name in names}


def _estimate(name: str, scored: _Scored, classes: Sequence[str], how: str, level: float) -> Estimate:
    draws, n = scored.part.draws, len(scored.part.rows)
    method = f"{name}, {how}" + (" (15 equal-width bins)" if name == "ece" else "")
    if name not in scored.values:
        return Estimate.undefined(n, f"{name}; a class has no test image here")
    value, groups, freedom = scored.values[name], _fewest(name, draws, classes), draws.freedom
    if name.startswith("recall:"):
        n = int(np.sum(scored.part.truth == classes.index(name.removeprefix("recall:"))))
        freedom = groups - 1
    drawn = scored.replicates[name]
    if name == "accuracy" or name.startswith("recall:"):
        return share_estimate(value, drawn, groups=groups, n=n, freedom=freedom, method=method, level=level)
    return interval_estimate(
        value,
        drawn,
        n=n,
        freedom=freedom,
        method=method,
        level=level,
        reliable=groups >= FEWEST_GROUPS,
        centered=name == "ece",
    )


def _fewest(name: str, draws: GroupBootstrap, classes: Sequence[str]) -> int:
    """Groups that a metric rests on: of the class, of the rarest class, or all."""
    if name in ("accuracy", "ece"):
        return draws.groups
    if name.startswith("recall:"):
        return draws.class_groups[name.removeprefix("recall:")]
    return min(draws.class_groups.get(label, 0) for label in classes)


def _shares(
    singles: Iterable[tuple[Mapping[str, float], Mapping[str, Array], Array, Array]],
    shares: Array,
    part: _Part,
    classes: Sequence[str],
    level: float,
) -> tuple[tuple[Estimate, ...], ...]:
    """The confusion matrix as shares of the true class."""
    singles = list(singles)
    counts = np.mean([table for _, _, table, _ in singles], axis=0)
    drawn = _over_seeds([tables for _, _, _, tables in singles], shares)
    lines = []
    for i, label in enumerate(classes):
        n, groups = int(counts[i].sum()), part.draws.class_groups.get(label, 0)
        method = "share of the true class, group bootstrap"
        if n == 0:
            lines.append((Estimate.undefined(0, method),) * len(classes))
            continue
        line = []
        for j in range(len(classes)):
            value = float(counts[i, j] / n)
            replicates = drawn[:, i, j] / drawn[:, i].sum(axis=1)
            line.append(
                share_estimate(
                    value, replicates, groups=groups, n=n, freedom=groups - 1, method=method, level=level
                )
            )
        lines.append(tuple(line))
    return tuple(lines)


def _differences(
    scored: _Scored, base: _Scored, row: ArmRow, classes: Sequence[str], level: float
) -> dict[str, Difference]:
    """This arm minus R->R, replicate by replicate."""
    paired = scored.part is base.part
    freedom = min(scored.part.draws.freedom, base.part.draws.freedom)
    n = min(len(scored.part.rows), len(base.part.rows))
    found = {}
    for name in row.estimates:
        how = "same test images and seeds" if paired else "other test images, same seeds"
        method = f"{name}, difference from R->R, {how}, group bootstrap"
        if name not in scored.values or name not in base.values:
            found[name] = Difference(
                estimate=Estimate.undefined(n, method), p=None, p_holm=None, paired=paired
            )
            continue
        own = freedom
        fewest = min(_fewest(name, part.draws, classes) for part in (scored.part, base.part))
        if name.startswith("recall:"):
            own = fewest - 1
        change = scored.replicates[name] - base.replicates[name]
        value = scored.values[name] - base.values[name]
        found[name] = Difference(
            estimate=interval_estimate(
                value,
                change,
                n=n,
                freedom=own,
                method=method,
                level=level,
                reliable=fewest >= FEWEST_GROUPS,
                centered=name == "ece",
                bounds=(-1.0, 1.0),
            ),
            # centered as the interval is, or the two could contradict each other
            p=p_value(change - change.mean() + value if name == "ece" else change, own),
            p_holm=None,
            paired=paired,
        )
    return found


def _adjusted(rows: Sequence[ArmRow]) -> list[ArmRow]:
    """Holm's adjustment over the arms and ratios of a scope, metric by metric."""
    names = dict.fromkeys(name for row in rows for name in row.differences)
    adjusted: dict[int, dict[str, Difference]] = {i: dict(row.differences) for i, row in enumerate(rows)}
    for name in names:
        family = [(i, d.p) for i, own in adjusted.items() if (d := own.get(name)) and d.p is not None]
        for (i, _), p in zip(family, holm([p for _, p in family]), strict=True):
            adjusted[i][name] = replace(adjusted[i][name], p_holm=p)
    return [replace(row, differences=adjusted[i]) for i, row in enumerate(rows)]
