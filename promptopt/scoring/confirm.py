"""Confirmation: the best prompts again, on fresh seeds and against real images the search has never seen.

The best of many noisy scores is too good to be true, so nothing is claimed from search scores alone. The
plain baseline prompt is ranked with the others: where none does better, it is the one to take home. Networks
that the search never asked, another encoder and the judge, may contradict. A prompt that one of them sees as
worse than the baseline, or whose gain the other encoder does not see although it sees as sharply, has found a
weakness of the search's encoder, and goes to the end of the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.estimate import Estimate
from evaluation.inference.multiple_testing import holm
from evaluation.inference.paired import compare, p_value
from promptopt.run.trials import TrialRow
from promptopt.scoring.objective import Measurement, Objective, Score
from promptopt.search.model.shrinkage import shrink
from promptopt.space import Candidate


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A prompt to confirm.

    Attributes:
        search: the trial that proposed it, None for one given by hand.
        predicted: mean and SD of its value as the search's model sees it, None likewise.
    """

    candidate: Candidate
    search: TrialRow | None = None
    predicted: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class IndependentCheck:
    """What a network that the search never asked says of a prompt.

    Attributes:
        gain: over the baseline on the same seeds; of an encoder in SDs of its own, of the judge in accuracy.
        p_value: that there is no difference, two-sided, adjusted over the prompts (Holm).
        gap: the search encoder's gain minus this one's, both as a mean over their terms; above 0 the first
            one is flattered. None for the judge.
        estimates: all it measured.
    """

    gain: Estimate
    p_value: float
    gap: Estimate | None = None
    estimates: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """One prompt after confirmation.

    Attributes:
        rank: 1 for the best by confirmation score.
        choice: slot options, None for the baseline and for a prompt given by hand.
        search: the trial that proposed it, None likewise.
        measurement: its fresh images and metrics; `score` compares them with the baseline's.
        behind_first: the first prompt's score minus this one's, paired by seed; None for the first itself.
        tied: not shown to be worse than the first, over all prompts together (Holm).
        p_value: that it equals the baseline, two-sided, adjusted over the prompts (Holm); None for the
            baseline.
        better: shown to be better than the baseline.
        shrunken: what it is worth after all: fresh score and the search's model together.
        optimism: its search score minus the fresh one; their seeds differ, so the errors are independent.
        independent_checks: "second_encoder" and "judge", where the study has them.
        contradicted_by: the independent check that sees it as worse than the baseline, or sees nothing of a
            gain which the search's encoder sees, if any.
        front: no other prompt has a higher fresh mean in every term; None where the terms are not kept apart.
    """

    rank: int
    candidate: Candidate
    choice: Mapping[str, str] | None
    search: TrialRow | None
    measurement: Measurement
    score: Score
    behind_first: Estimate | None
    tied: bool
    p_value: float | None = None
    better: bool = False
    shrunken: Estimate | None = None
    optimism: Estimate | None = None
    independent_checks: Mapping[str, IndependentCheck] = field(default_factory=dict)
    contradicted_by: str | None = None
    front: bool | None = None


def confirm(
    finalists: Sequence[Finalist],
    *,
    objective: Objective,
    measure: Callable[[Candidate], Measurement],
    baseline: Measurement,
    second: Objective | None = None,
    alpha: float = 0.05,
    pareto: bool = False,
    on_done: Callable[[int, int, Candidate], None] | None = None,
) -> tuple[Confirmed, ...]:
    """Measure each prompt with `measure` (fresh seeds); rank by the score against the baseline's images.

    The baseline is ranked too; its score is 0.

    Args:
        second: the same objective in another encoder's space.
        alpha: risk of any false claim among those of one kind (better than the baseline; behind the first;
            contradicted by one independent check).
        pareto: say who is on the front of the terms.
    """
    wanted = {one.candidate.normalized_key: one for one in finalists}
    wanted.pop(baseline.candidate.normalized_key, None)
    found: list[Confirmed] = [
        _plain(Finalist(candidate=baseline.candidate), baseline, objective.score(baseline, baseline))
    ]
    for one in wanted.values():
        measurement = measure(one.candidate)
        found.append(_plain(one, measurement, objective.score(measurement, baseline)))
        if on_done is not None:
            on_done(len(found) - 1, len(wanted), one.candidate)
    worth = shrink(
        [c.score.estimate for c in found],
        [c.score.per_image for c in found],
        [None, *(one.predicted for one in wanted.values())],
    )
    found = [replace(c, shrunken=estimate) for c, estimate in zip(found, worth, strict=True)]
    others = found[1:]
    adjusted = holm([p_value(c.score.per_image) for c in others])
    others = [
        replace(c, p_value=p, better=p < alpha and _value(c.score.estimate) > 0)
        for c, p in zip(others, adjusted, strict=True)
    ]
    if second is not None:
        seen = second.measure(baseline.candidate, baseline.images)
        others = _heard("second_encoder", others, _by_second(second, seen, objective), alpha)
    if "judge" in baseline.per_image:
        others = _heard("judge", others, _by_judge(baseline), alpha)
    ranked = _ranked([found[0], *others], alpha)
    return _with_front(ranked) if pareto else ranked


def _plain(one: Finalist, measurement: Measurement, score: Score) -> Confirmed:
    search = one.search
    return Confirmed(
        rank=0,
        candidate=measurement.candidate,
        choice=search.choice if search is not None else None,
        search=search,
        measurement=measurement,
        score=score,
        behind_first=None,
        tied=True,
        optimism=None if search is None else _apart(search.score, score.estimate),
    )


@dataclass(frozen=True)
class _Answer:
    """Per-image gains over the baseline, and the gaps to what the search's encoder sees (or None)."""

    gains: np.ndarray
    gaps: np.ndarray | None = None
    estimates: Mapping[str, Estimate] = field(default_factory=dict)


_Heard = Callable[[Confirmed], _Answer]


def _by_second(second: Objective, baseline: Measurement, first: Objective) -> _Heard:
    """Both scores as means over their terms: an encoder without texts has fewer."""
    own, others = (sum(weight for _, weight in one.terms().values()) for one in (second, first))
    known: dict[str, Estimate] = {}  # of the encoder, on real images
    fit = False
    if second.probe is not None:
        known["probe_accuracy"] = sharp = second.probe.accuracy(
            second.held_out.features, second.held_out.labels
        )
        fit = own > 0 and sharp.low is not None and sharp.low > _chance(second.held_out.labels)

    def ask(one: Confirmed) -> _Answer:
        seen = second.measure(one.candidate, one.measurement.images)
        gains = second.score(seen, baseline).per_image / own
        gaps = one.score.per_image / others - gains if fit else None
        return _Answer(gains, gaps, {**seen.estimates, **known})

    return ask


def _chance(labels: np.ndarray) -> float:
    """Accuracy of always saying the more frequent label."""
    share = float(np.mean(labels))
    return max(share, 1 - share)


def _by_judge(baseline: Measurement) -> _Heard:
    def ask(one: Confirmed) -> _Answer:
        return _Answer(one.measurement.per_image["judge"] - baseline.per_image["judge"])

    return ask


def _heard(name: str, prompts: Sequence[Confirmed], ask: _Heard, alpha: float) -> list[Confirmed]:
    """The prompts with what the independent check says of each."""
    answers = [ask(one) for one in prompts]
    adjusted = holm([p_value(a.gains) for a in answers])
    flattered = holm([1.0 if a.gaps is None else p_value(a.gaps) for a in answers])
    found = []
    for one, answer, p, p_gap in zip(prompts, answers, adjusted, flattered, strict=True):
        gain = _mean(answer.gains)
        gap = None if answer.gaps is None else _mean(answer.gaps)
        worse = p < alpha and _value(gain) < 0
        sees_it = p < alpha and _value(gain) > 0
        unseen = one.better and not sees_it and gap is not None and p_gap < alpha and _value(gap) > 0
        said = IndependentCheck(gain=gain, p_value=p, gap=gap, estimates=answer.estimates)
        blame = one.contradicted_by or (name if worse or unseen else None)
        found.append(
            replace(
                one,
                independent_checks={**one.independent_checks, name: said},
                contradicted_by=blame,
                better=one.better and blame is None,
            )
        )
    return found


def _mean(differences: np.ndarray) -> Estimate:
    return compare(differences, np.zeros(len(differences)))


def _ranked(prompts: Sequence[Confirmed], alpha: float) -> tuple[Confirmed, ...]:
    order = sorted(prompts, key=lambda c: (c.contradicted_by is not None, -_value(c.score.estimate)))
    first, rest = order[0], order[1:]
    behind = [Objective.difference(first.score, c.score) for c in rest]
    adjusted = holm([p_value(first.score.per_image - c.score.per_image) for c in rest])
    return (
        replace(first, rank=1),
        *(
            replace(
                c,
                rank=rank,
                behind_first=gap,
                tied=c.contradicted_by is None and not (p < alpha and _value(gap) > 0),
            )
            for rank, (c, gap, p) in enumerate(zip(rest, behind, adjusted, strict=True), start=2)
        ),
    )


def _with_front(prompts: Sequence[Confirmed]) -> tuple[Confirmed, ...]:
    means = [{name: float(v.mean()) for name, v in c.score.gains.items()} for c in prompts]

    def beaten(own: Mapping[str, float]) -> bool:
        return any(all(other[name] > own[name] for name in own) for other in means)

    return tuple(
        replace(c, front=c.contradicted_by is None and not beaten(own))
        for c, own in zip(prompts, means, strict=True)
    )


def _apart(first: Estimate, other: Estimate) -> Estimate:
    """The difference of two independent estimates."""
    method = "difference of independent means, normal interval"
    n = min(first.n, other.n)
    if first.value is None or other.value is None:
        return Estimate.undefined(n, method)
    value = first.value - other.value
    bounds = (first.low, first.high, other.low, other.high)
    if any(bound is None for bound in bounds):
        return Estimate(value, None, None, n, method, "unreliable")
    low = math.hypot(first.value - (first.low or 0), (other.high or 0) - other.value)
    high = math.hypot((first.high or 0) - first.value, other.value - (other.low or 0))
    return Estimate(value, value - low, value + high, n, method, "ok")


def mean_optimism(confirmed: Sequence[Confirmed]) -> Estimate:
    """By how much search scores were too good, over the prompts that the search proposed.

    Without an interval: the prompts share their seeds, so they are not independent.
    """
    values = [c.optimism.value for c in confirmed if c.optimism is not None and c.optimism.value is not None]
    method = "mean over prompts of search score minus fresh score"
    if not values:
        return Estimate.undefined(0, method)
    return Estimate(float(np.mean(values)), None, None, len(values), method, "unreliable")


def _value(estimate: Estimate) -> float:
    return float("-inf") if estimate.value is None else estimate.value
