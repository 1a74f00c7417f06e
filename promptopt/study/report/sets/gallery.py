"""What the grid of pictures is made from: the prompts measured, their images, numbers and slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptopt.run.set_names import LESS
from promptopt.study.report.figures import label as option_label

if TYPE_CHECKING:
    from promptopt.space import Candidate
    from promptopt.study.report.sets.album import Album
    from promptopt.study.sets.search import ClassSearch

SEEDS = 8
"""Images of a prompt."""
PICTURES = 640
"""Images of all classes; what is left out is said."""
_EXCLUDED = 12  # prompts of a class that may not be in the set

Status = Literal["baseline", "set", "rejected", "excluded"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt as the page has it.

    Attributes:
        weight: in the set; 0 where it is not in it.
        score: by how much its images alone are nearer to the real ones than the baseline's, MMD^2 x 1000.
        why: the reason for which it may not be in the set.
        slots: its options in the order of the template's slots; None outside the template.
        pictures: numbers in the album, in the order of the seeds.
        values: of each picture: what more of its like would bring the set, MMD^2 x 1000.
    """

    prompt: str
    status: Status
    weight: float
    score: float
    why: str
    slots: list[str] | None
    pictures: list[int]
    values: list[float]


def gallery(
    searches: Mapping[str, ClassSearch], weights: Mapping[str, Mapping[Candidate, float]], album: Album
) -> list[dict[str, Any]]:
    """Each class with its slots, the baseline first, then the other prompts, the set's by weight.

    Args:
        weights: label -> the set as it was confirmed.
    """
    return [
        {
            "label": label,
            "slots": [slot.name for slot in one.setup.space.slots],
            "measured": len(one.known.looks),
            "prompts": [vars(row) for row in _rows(one, weights[label], album, PICTURES // len(searches))],
        }
        for label, one in searches.items()
    ]


def _rows(one: ClassSearch, weights: Mapping[Candidate, float], album: Album, most: int) -> Iterator[Row]:
    state, level = one.known, one.level()
    scores = scores_alone(one)
    values = dict(zip(state.keys, state.values, strict=True))
    left = most
    for candidate in ordered(list(scores), one.baseline, weights=weights, scores=scores, out=state.excluded):
        images = one.images[candidate][:SEEDS]
        left -= len(images)
        if left < 0:
            return
        choice = state.looks[candidate].choice
        yield Row(
            prompt=candidate.label,
            status=_status(one, candidate, weights),
            weight=round(weights.get(candidate, 0.0), 4),
            score=scores[candidate],
            why=state.excluded.get(candidate, ""),
            slots=None if choice is None else [option_label(choice[s.name]) for s in one.setup.space.slots],
            pictures=album.add_all((image.path for image in images), small=True),
            values=[round(LESS * float(v - level), 1) for v in values[candidate][: len(images)]],
        )


def scores_alone(one: ClassSearch) -> dict[Candidate, float]:
    """Measured prompt -> by how much it alone is nearer than the baseline on the search's images, x 1000."""
    state = one.known
    assert state.form is not None
    assert state.problem is not None
    alone = np.diag(state.form.within) - 2 * state.form.across + state.problem.linear
    distances = dict(zip(state.keys, alone.tolist(), strict=True))
    plain = distances[one.baseline]
    return {candidate: round(LESS * (plain - value), 1) for candidate, value in distances.items()}


def ordered(
    candidates: list[Candidate],
    baseline: Candidate,
    *,
    weights: Mapping[Candidate, float],
    scores: Mapping[Candidate, float],
    out: Mapping[Candidate, str],
) -> list[Candidate]:
    """The baseline, the set by weight, some that were excluded, then the best and the worst in turn."""
    first = [baseline, *sorted(weights, key=lambda c: -weights[c])]
    ranked = sorted(candidates, key=lambda c: -scores[c])
    first += [c for c in ranked if c in out][:_EXCLUDED]
    rest = [c for c in ranked if c not in first]
    half = (len(rest) + 1) // 2
    pairs = zip_longest(rest[:half], reversed(rest[half:]))
    return list(dict.fromkeys([*first, *(c for pair in pairs for c in pair if c is not None)]))


def _status(one: ClassSearch, candidate: Candidate, weights: Mapping[Candidate, float]) -> Status:
    if candidate == one.baseline:
        return "baseline"
    if candidate in one.known.excluded:
        return "excluded"
    return "set" if candidate in weights else "rejected"
