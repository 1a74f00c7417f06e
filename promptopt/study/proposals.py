"""What a proposer of prompts is told, and what prompts of your own are measured as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evaluation.estimate import Estimate
from promptopt.space import Candidate

if TYPE_CHECKING:
    from promptopt.search.sets.certificate import Certificate


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a class's set is, and what brought it there.

    Attributes:
        label: the class.
        baseline: its plain prompt.
        weights: the set: candidate -> share, sum 1.
        leads: every measured prompt -> what more of it would take off the set's distance to the real images
            (MMD^2, with the study's other terms): above 0 it is wanted, the set's own are near 0.
        images, budget: made for this class so far, and at most.
        max_tokens: of a prompt; longer ones are refused.

    Example:
        >>> plain, dim = Candidate("a polyp"), Candidate("a dim polyp")
        >>> leads = {plain: -0.2, dim: 0.01}
        >>> own = {"label": "polyp", "baseline": plain, "weights": {dim: 1.0}, "leads": leads}
        >>> gap = Gap(**own, images=12, budget=600, max_tokens=77)
        >>> [one.prompt for one in gap.best(1)]
        ['a dim polyp']
    """

    label: str
    baseline: Candidate
    weights: Mapping[Candidate, float]
    leads: Mapping[Candidate, float]
    images: int
    budget: int
    max_tokens: int
    _certify: Callable[[], Certificate | None] = field(default=lambda: None, repr=False)

    @property
    def certificate(self) -> Certificate | None:
        """What no prompt of the template could add any more; None with fewer than 24 prompts."""
        return self._certify()

    def best(self, count: int = 10) -> list[Candidate]:
        """The measured prompts of greatest lead, the first ones to vary."""
        return sorted(self.leads, key=lambda one: -self.leads[one])[:count]


Propose = Callable[[str, Gap], Sequence[Candidate | str]]
"""From a label and its gap to further prompts; called before each step of the class's search."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A prompt to measure on the first `images` seeds of the study, for a class."""

    label: str
    candidate: Candidate
    images: int


@dataclass(frozen=True, kw_only=True)
class ScoredPrompt:
    """A prompt of your own, measured; nothing of it enters the search.

    Attributes:
        score: of a study of sets, its lead (`Gap.leads`); of single prompts, the gain over the baseline in
            SDs of its images. More is better.
        estimates: what was measured besides; "closeness" is MMD^2 of its images alone to the real ones.
    """

    candidate: Candidate
    images: int
    score: Estimate
    estimates: Mapping[str, Estimate]


def candidate_of(prompt: Candidate | str) -> Candidate:
    """A text is a prompt with nothing besides."""
    return Candidate(prompt) if isinstance(prompt, str) else prompt
