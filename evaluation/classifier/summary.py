"""From predicted probabilities to rows of Estimates and comparisons of arms.

Intervals are for new test images and new training seeds: variance and degrees of freedom tell of both
(`evaluation.inference.bootstrap.SeedScores`). All arms and learners share the draws of test groups, so that
comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.engine import REAL_TEST, Arm, Trained
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.results import ALL, ArmRow, Comparison, Difference, Run
from evaluation.classifier.scores import METRICS, classifier_scores, confusion
from evaluation.estimate import Estimate
from evaluation.inference.bootstrap import GroupBootstrap, SeedScores
from evaluation.inference.intervals import FEWEST_GROUPS, interval_estimate, p_value
from evaluation.inference.multiple_testing import holm

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together: `pairs` of arms, the first minus the second."""

    question: str
    pairs: tuple[tuple[Arm, Arm], ...]


@dataclass(frozen=True, eq=False)
class _Part:
    """The test images of a scope and their resampling."""

    rows: NDArray[np.int64]
    truth: NDArray[np.int64]
    draws: GroupBootstrap


@dataclass(frozen=True, eq=False)
class _Scored:
    """An arm's scores on a part; `tables` are confusion matrices, (seeds, k, k), and `cells` their entries as
    shares of the true class, None for a class that does not occur."""

    part: _Part
    scores: Mapping[str, SeedScores]
    tables: Array
    cells: Sequence[Sequence[SeedScores] | None]


def summarize(
    trained: Sequence[Trained],
    test: Mapping[str, LabeledImages],
    *,
    classes: Sequence[str],
    seeds: Sequence[int],
    families: Sequence[Family],
    by_center: bool = False,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[tuple[ArmRow, ...], tuple[Comparison, ...]]:
    """One row for each arm, learner and scope, and one comparison for each pair of a family.

    Args:
        trained: of `train_arms`.
        test: the sets that were tested on, by name; their inputs are not read.
        families: pairs with an arm that was not trained, or not tested in a scope, are passed over.
        by_center: also on the test images of each center of `real_test`.
    """
    scopes = [ALL]
    if by_center:
        scopes += sorted(set(test[REAL_TEST].centers))
    rows: list[ArmRow] = []
    comparisons: list[Comparison] = []
    for number, scope in enumerate(scopes):
        parts = {
            name: part
            for index, (name, images) in enumerate(test.items())
            if (part := _part(images, scope, classes, resamples, key=[number, index])) is not None
        }
        scored: dict[tuple[str, Arm], _Scored] = {}
        for own in trained:
            if (part := parts.get(own.arm.test)) is not None:
                scored[own.learner, own.arm] = one = _score(own, part, classes)
                rows.append(_row(own, one, scope, resamples, classes=classes, seeds=seeds, level=level))
        for learner in dict.fromkeys(own.learner for own in trained):
            own_arms = {arm: one for (name, arm), one in scored.items() if name == learner}
            for family in families:
                comparisons += _compare(family, own_arms, learner, scope, classes, level)
    return tuple(rows), tuple(comparisons)


def _part(
    images: LabeledImages, scope: str, classes: Sequence[str], resamples: int, *, key: Sequence[int]
) -> _Part | None:
    inside = [i for i, center in enumerate(images.centers) if scope in (ALL, center)]
    if not inside:
        return None
    labels, groups = ([names[i] for i in inside] for names in (images.labels, images.groups))
    draws = GroupBootstrap.draw(groups, labels, resamples=resamples, rng=np.random.default_rng([3, *key]))
    return _Part(np.array(inside), np.array([list(classes).index(label) for label in labels]), draws)


def _score(own: Trained, part: _Part, classes: Sequence[str]) -> _Scored:
    weights, draws = part.draws.weights, part.draws
    order = [id(p) for p in own.probabilities]
    points, drawn, single, many = {}, {}, {}, {}
    for key, whole in dict(zip(order, own.probabilities, strict=True)).items():
        p = whole[part.rows]  # once for all seeds that share a classifier
        points[key] = classifier_scores(part.truth, p, classes=classes)
        drawn[key] = classifier_scores(part.truth, p, classes=classes, weights=weights)
        single[key], many[key] = confusion(part.truth, p)[0], confusion(part.truth, p, weights)

    def scores(values: Array, replicates: Array, groups: int, freedom: int) -> SeedScores:
        return SeedScores(
            values=values, replicates=replicates, groups=groups, freedom=freedom, seeded=own.seeded
        )

    found = {}
    for name in points[order[0]]:
        groups = _fewest(name, draws, classes)
        found[name] = scores(
            np.array([points[key][name][0] for key in order]),
            np.stack([drawn[key][name] for key in order], axis=1),
            groups,
            groups - 1 if name.startswith("recall:") else draws.freedom,
        )
    tables, resampled = np.stack([single[key] for key in order]), np.stack([many[key] for key in order], 1)
    cells: list[list[SeedScores] | None] = []
    for i, label in enumerate(classes):
        if not tables[0, i].sum():
            cells.append(None)
            continue
        groups = draws.class_groups[label]
        values = tables[:, i] / tables[:, i].sum(axis=1, keepdims=True)
        replicates = resampled[:, :, i] / resampled[:, :, i].sum(axis=2, keepdims=True)
        cells.append(
            [scores(values[:, j], replicates[:, :, j], groups, groups - 1) for j in range(len(classes))]
        )
    return _Scored(part, found, tables, cells)


def _fewest(name: str, draws: GroupBootstrap, classes: Sequence[str]) -> int:
    """Groups that a metric rests on: of the class, of the rarest class, or all."""
    if name in ("accuracy", "ece"):
        return draws.groups
    if name.startswith("recall:"):
        return draws.class_groups[name.removeprefix("recall:")]
    return min(draws.class_groups.get(label, 0) for label in classes)


def _row(
    own: Trained,
    scored: _Scored,
    scope: str,
    resamples: int,
    *,
    classes: Sequence[str],
    seeds: Sequence[int],
    level: float,
) -> ArmRow:
    groups = scored.part.draws.groups
    how = f"bootstrap over {groups} test groups, {resamples} resamples"

    def estimates(scores: Mapping[str, SeedScores], how: str) -> dict[str, Estimate]:
        names = [*METRICS, *(f"recall:{name}" for name in classes)]
        return {name: _estimate(name, scores.get(name), scored.part, classes, how, level) for name in names}

    runs = []
    for place, seed in enumerate(seeds):
        one = {
            name: replace(
                s, values=s.values[[place]], replicates=s.replicates[:, [place]], seeded=False
            )  # this very classifier, not those of other seeds
            for name, s in scored.scores.items()
        }
        runs.append(
            Run(
                seed=seed,
                estimates=estimates(one, f"one seed, {how}"),
                confusion=tuple(tuple(int(cell) for cell in line) for line in scored.tables[place]),
            )
        )
    counts = scored.tables[0].sum(axis=1)
    method = "share of the true class, group bootstrap"
    return ArmRow(
        arm=own.arm,
        learner=own.learner,
        scope=scope,
        train_real=own.train_real,
        train_synthetic=own.train_synthetic,
        test_images=len(scored.part.rows),
        test_groups=groups,
        estimates=estimates(scored.scores, f"mean of {len(seeds)} seeds, variance over them and {how}"),
        confusion=tuple(
            (Estimate.undefined(0, method),) * len(classes)
            if line is None
            else tuple(_interval(c, int(counts[i]), method, level, groups=c.groups) for c in line)
            for i, line in enumerate(scored.cells)
        ),
        runs=tuple(runs),
    )


def _estimate(
    name: str,
    scores: SeedScores | None,
    part: _Part,
    classes: Sequence[str],
    how: str,
    level: float,
) -> Estimate:
    n, share = len(part.rows), name == "accuracy" or name.startswith("recall:")
    if scores is None:
        return Estimate.undefined(n, f"{name}; a class has no test image here")
    method = f"{name}, {how}" + (" (15 equal-width bins)" if name == "ece" else "")
    if name.startswith("recall:"):
        n = int(np.sum(part.truth == classes.index(name.removeprefix("recall:"))))
    return _interval(scores, n, method, level, biased=name == "ece", groups=scores.groups if share else None)


def _interval(scores: SeedScores, n: int, method: str, level: float, **kind: Any) -> Estimate:
    variance, freedom = scores.spread()
    reliable = scores.groups >= FEWEST_GROUPS and scores.enough_seeds
    return interval_estimate(
        scores.mean,
        variance,
        n=n,
        freedom=freedom,
        method=method,
        level=level,
        reliable=reliable,
        **kind,
    )


def _compare(
    family: Family,
    scored: Mapping[Arm, _Scored],
    learner: str,
    scope: str,
    classes: Sequence[str],
    level: float,
) -> list[Comparison]:
    """The family's differences, with Holm's adjustment over its pairs, metric by metric."""
    pairs = [(first, second) for first, second in family.pairs if first in scored and second in scored]
    names = [*METRICS, *(f"recall:{name}" for name in classes)]
    columns = {
        name: _adjusted([_difference(name, scored[a], scored[b], b, level) for a, b in pairs])
        for name in names
    }
    return [
        Comparison(
            question=family.question,
            learner=learner,
            scope=scope,
            first=first,
            second=second,
            differences={name: column[place] for name, column in columns.items()},
        )
        for place, (first, second) in enumerate(pairs)
    ]


def _difference(name: str, first: _Scored, second: _Scored, base: Arm, level: float) -> Difference:
    paired = first.part is second.part
    n = min(len(first.part.rows), len(second.part.rows))
    how = "same test images and seeds" if paired else "other test images, same seeds"
    method = f"{name}, difference from {base.title}, {how}, bootstrap over groups and seeds"
    if name not in first.scores or name not in second.scores:
        return Difference(estimate=Estimate.undefined(n, method), p=None, p_holm=None, paired=paired)
    change = first.scores[name] - second.scores[name]
    variance, freedom = change.spread()
    return Difference(
        estimate=_interval(change, n, method, level, bounds=(-1.0, 1.0)),
        p=p_value(change.mean, variance, freedom=freedom),
        p_holm=None,
        paired=paired,
    )


def _adjusted(differences: Sequence[Difference]) -> list[Difference]:
    adjusted = iter(holm([d.p for d in differences if d.p is not None]))
    return [d if d.p is None else replace(d, p_holm=next(adjusted)) for d in differences]
