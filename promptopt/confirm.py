"""Confirmation: the best prompts again, on fresh seeds and against real images the search has never seen.

The best of many noisy scores is too good to be true, so nothing is claimed from search scores alone. The
plain baseline prompt is ranked with the others: where none does better, it is the one to take home.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.estimate import Estimate
from promptopt.objective import Measurement, Objective, Score
from promptopt.search import TrialRow


@dataclass(frozen=True)
class Confirmed:
    """One prompt after confirmation.

    Attributes:
        rank: 1 for the best by confirmation score.
        choice: slot options, None for the baseline and for a prompt given by hand.
        search: the trial that proposed it, None likewise.
        measurement: its fresh images and metrics; `score` compares them with the baseline's.
        behind_first: the first prompt's score minus this one's, paired by seed; None for the first itself.
        tied: the interval of that difference covers 0, so it may be as good as the first.
    """

    rank: int
    prompt: str
    choice: Mapping[str, str] | None
    search: TrialRow | None
    measurement: Measurement
    score: Score
    behind_first: Estimate | None
    tied: bool


def best_trials(rows: Sequence[TrialRow], top: int, *, without: str | None = None) -> list[TrialRow]:
    """The `top` distinct prompts by search score, earlier trials first among equals."""
    distinct = [row for row in rows if row.duplicate_of is None and row.prompt != without]
    return sorted(distinct, key=lambda row: (-row.value, row.number))[:top]


def confirm(
    rows: Sequence[TrialRow],
    *,
    objective: Objective,
    measure: Callable[[str], Measurement],
    baseline: Measurement,
    given: Sequence[str] = (),
    on_done: Callable[[int, int, str], None] | None = None,
) -> tuple[Confirmed, ...]:
    """Measure each prompt with `measure` (fresh seeds); rank by the score against the baseline's images.

    The baseline is ranked too; its score is 0.

    Args:
        rows: the trials to confirm, from `best_trials`.
        given: further prompts to put through the same test; they are ranked with the others.
    """
    wanted: dict[str, TrialRow | None] = {row.prompt: row for row in rows}
    for prompt in given:
        wanted.setdefault(prompt, None)
    wanted.pop(baseline.prompt, None)
    measured: list[tuple[TrialRow | None, Measurement, Score]] = [
        (None, baseline, objective.score(baseline, baseline))
    ]
    for prompt, row in wanted.items():
        measurement = measure(prompt)
        measured.append((row, measurement, objective.score(measurement, baseline)))
        if on_done is not None:
            on_done(len(measured) - 1, len(wanted), prompt)
    measured.sort(key=lambda item: -_value(item[2]))
    ranked: list[Confirmed] = []
    for rank, (row, measurement, score) in enumerate(measured, start=1):
        behind = Objective.difference(measured[0][2], score) if rank > 1 else None
        tied = behind is None or behind.low is None or behind.low <= 0.0
        ranked.append(
            Confirmed(
                rank=rank,
                prompt=measurement.prompt,
                choice=row.choice if row is not None else None,
                search=row,
                measurement=measurement,
                score=score,
                behind_first=behind,
                tied=tied,
            )
        )
    return tuple(ranked)


def _value(score: Score) -> float:
    value = score.estimate.value
    return float("-inf") if value is None else value
