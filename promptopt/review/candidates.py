"""The prompts of a run that experts can be asked about."""

from __future__ import annotations

from dataclasses import dataclass

from promptopt.review.preference_model import Slots
from promptopt.review.records import ReviewError
from promptopt.run import folder as runfolder
from promptopt.run.images import RunImages, Stage
from promptopt.run.snapshot import read_rows
from promptopt.run.trials import latest
from promptopt.space import Candidate


@dataclass(frozen=True)
class KnownPrompt:
    """A prompt of a run. `score` is the study's own, of its latest stage; the baseline's is 0."""

    candidate: Candidate
    slots: Slots
    score: float | None
    weight: float = 0.0

    @property
    def label(self) -> str:
        """What the records of a review call it."""
        return self.candidate.label


def known_prompts(images: RunImages) -> list[KnownPrompt]:
    """Every prompt that the run has a score for, best first; confirmed ones, where there are any, first."""
    found = {prompt.candidate: prompt for prompt in _confirmed(images)}
    for prompt in _searched(images):
        found.setdefault(prompt.candidate, prompt)
    return list(found.values())


def candidates(images: RunImages, *, most: int) -> tuple[list[KnownPrompt], Stage]:
    """The prompts to show, and which of their images.

    Of a finished study the confirmed prompts, on their fresh images; of another the best of the search. The
    baseline is always one of them.

    Raises ReviewError for a run with fewer than two prompts.
    """
    confirmed = _confirmed(images)
    stage: Stage = "confirmation" if confirmed else "search"
    rows = confirmed or _searched(images)
    baseline = next(
        (row for row in rows if row.candidate == images.baseline), KnownPrompt(images.baseline, None, 0.0)
    )
    others = [row for row in rows if row.candidate != images.baseline][: most - 1]
    if not others:
        raise ReviewError(
            f"{images.folder}: no prompt to compare with the baseline yet. Run the study first."
        )
    return [baseline, *others], stage


def _confirmed(images: RunImages) -> list[KnownPrompt]:
    from promptopt.run.prompts import read_prompts

    path = images.folder / runfolder.PROMPTS
    if not path.exists():
        return []
    return [
        KnownPrompt(entry.candidate, entry.slots, entry.confirmation["score"].value, entry.weight)
        for entry in read_prompts(path).prompts
    ]


def _searched(images: RunImages) -> list[KnownPrompt]:
    rows = latest(read_rows(images.folder))
    found = [KnownPrompt(row.candidate, dict(row.choice), row.score.value) for row in rows]
    return sorted(found, key=lambda row: -(row.score if row.score is not None else float("-inf")))
