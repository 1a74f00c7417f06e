"""What many choices between two prompts say about each prompt: Bradley-Terry with slots.

Prompt i is chosen over j with probability 1 / (1 + exp(f_j - f_i)) (Bradley and Terry 1952); "no difference"
counts as half a choice for each. The worths f have a normal prior, as in preference learning with Gaussian
processes (Chu and Ghahramani 2005): half of a prompt's variance is its own, half is shared by prompts in
proportion to the slots in which they agree. So a prompt that nobody has seen has a value too, from its words,
with an interval that says how little is known. The posterior is Laplace's: a normal one at its maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.estimate import Estimate
from promptopt.base.errors import ArgumentError

PRIOR_SD = 1.5
"""Of a worth, in log-odds. Two prompts then differ by 2.1 in SD: one is chosen 89 % of the time, or 50 %."""
SHARED = 0.5
"""Part of the variance that comes from the slots, where a prompt has any."""
FEWEST = 5  # comparisons of a prompt below which its value is unreliable
_QUANTILE = 1.959963984540054

Array = np.ndarray[Any, np.dtype[np.float64]]
Slots = Mapping[str, str] | None


@dataclass(frozen=True)
class Comparison:
    """Two prompts and what became of it: `first_won` is 1, 0, or 0.5 for no difference."""

    first: str
    second: str
    first_won: float


class PreferenceModel:
    """The worths of the compared prompts.

    Args:
        comparisons: at least one.
        slots: of the prompts that have any; others share nothing.

    Raises:
        ValueError: no comparison, or one of a prompt with itself.
    """

    def __init__(self, comparisons: Sequence[Comparison], *, slots: Mapping[str, Slots]) -> None:
        if not comparisons:
            raise ArgumentError("no comparison; a value needs at least one")
        if any(c.first == c.second for c in comparisons):
            raise ArgumentError("a prompt was compared with itself")
        self.slots = dict(slots)
        self.prompts = tuple(dict.fromkeys(name for c in comparisons for name in (c.first, c.second)))
        place = {name: index for index, name in enumerate(self.prompts)}
        self.counts = dict.fromkeys(self.prompts, 0)
        design = np.zeros((len(comparisons), len(self.prompts)))
        for row, c in enumerate(comparisons):
            design[row, place[c.first]], design[row, place[c.second]] = 1.0, -1.0
            self.counts[c.first] += 1
            self.counts[c.second] += 1
        won = np.array([c.first_won for c in comparisons])
        self._precision = _inverse(self._kernel(self.prompts, self.prompts))
        self.worths = _maximum(design, won, self._precision)
        self.covariance = _inverse(_hessian(design, self.worths, self._precision))

    def value(self, prompt: str, *, reference: str, slots: Slots = None) -> Estimate:
        """How much better than `reference` a prompt is, in log-odds of being chosen over it.

        0.85 means: chosen 70 % of the time. `n` counts its comparisons. ``unreliable`` below 5 of them, or
        where the reference has fewer; ``undefined`` where nothing that was compared shares a word with it.

        Args:
            slots: of a prompt that was not compared; those of the others are known.
        """
        n = self.counts.get(prompt, 0)
        method = "Bradley-Terry with slots, difference from the reference, Laplace interval"
        if prompt == reference:
            return Estimate(0.0, 0.0, 0.0, n, "the reference itself", "ok")
        known = self.slots | ({prompt: slots} if prompt not in self.slots and slots is not None else {})
        pair = (prompt, reference)
        across = self._kernel(pair, self.prompts, known)
        if not np.any(across[0]):
            return Estimate.undefined(0, method)
        weights = across @ self._precision
        mean = weights @ self.worths
        prior = self._kernel(pair, pair, known)
        covariance = prior - weights @ across.T + weights @ self.covariance @ weights.T
        contrast = np.array([1.0, -1.0])
        value = float(contrast @ mean)
        half = _QUANTILE * float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))
        few = min(n, self.counts.get(reference, 0)) < FEWEST
        return Estimate(value, value - half, value + half, n, method, "unreliable" if few else "ok")

    def _kernel(
        self, rows: Sequence[str], columns: Sequence[str], slots: Mapping[str, Slots] | None = None
    ) -> Array:
        known = self.slots if slots is None else slots
        return PRIOR_SD**2 * np.array(
            [[_alike(a, b, known.get(a), known.get(b)) for b in columns] for a in rows], dtype=np.float64
        )


def _alike(a: str, b: str, first: Slots, second: Slots) -> float:
    if a == b:
        return 1.0
    if not first or not second:
        return 0.0
    names = {*first, *second}
    return SHARED * sum(first.get(name) == second.get(name) for name in names) / len(names)


def _maximum(design: Array, won: Array, precision: Array) -> Array:
    """Newton's method on a strictly concave function; steps are halved where they would overshoot."""
    worths = np.zeros(design.shape[1])
    best = _log_posterior(design, won, precision, worths)
    for _ in range(100):
        gradient = design.T @ (won - _sigmoid(design @ worths)) - precision @ worths
        step = np.linalg.solve(_hessian(design, worths, precision), gradient)
        while (new := _log_posterior(design, won, precision, worths + step)) < best and np.any(step):
            step = step / 2 if np.abs(step).max() > 1e-12 else np.zeros_like(step)
        worths, best = worths + step, max(new, best)
        if float(np.abs(step).max()) < 1e-10:
            break
    return worths


def _inverse(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _hessian(design: Array, worths: Array, precision: Array) -> Array:
    chance = _sigmoid(design @ worths)
    return precision + (design * (chance * (1 - chance))[:, None]).T @ design


def _log_posterior(design: Array, won: Array, precision: Array, worths: Array) -> float:
    gaps = design @ worths
    fit = won @ -np.logaddexp(0, -gaps) + (1 - won) @ -np.logaddexp(0, gaps)
    return float(fit - worths @ precision @ worths / 2)


def _sigmoid(values: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(values), dtype=np.float64)
