"""What no prompt of the template could add any more: an upper bound, with its probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from promptopt.search.model.noise import IntArray
from promptopt.search.model.slot_model import SlotModel
from promptopt.search.sets.embeddings import FloatArray

PROBABILITY = 0.98
_DRAWS = 1024
_JOINT = 768  # prompts of the highest bounds that are drawn jointly; the others count by their tails
_BLOCK = 20_000


@dataclass(frozen=True)
class Certificate:
    """``J(set) - J(best mixture of the template) <= bound`` with at least `probability`.

    Attributes:
        bound: in the objective's own unit, MMD^2 where only closeness counts; 0 or more.
        expected: mean of the gap over the draws.
        share: `bound` as a share of what the set has gained over the baseline prompt; None where that is
            not above 0.
        prompts: how many prompts of the template were looked at.
        complete: whether these are all of them; otherwise a sample of the template's prompts.
    """

    bound: float
    expected: float
    probability: float
    share: float | None
    prompts: int
    complete: bool

    def sentence(self) -> str:
        """In words, for reports."""
        what = (
            "No prompt of this template"
            if self.complete
            else f"None of the {self.prompts:,} prompts of this template that were looked at"
        )
        share = "" if self.share is None else f" ({100 * self.share:.0f} % of what it has gained so far)"
        return (
            f"{what} would bring the set nearer by more than {self.bound:.4f}{share}, "
            f"with a probability of {100 * self.probability:.0f} % or more."
        )


def certify(
    model: SlotModel,
    weights: FloatArray,
    others: IntArray,
    *,
    complete: bool,
    rng: np.random.Generator,
    gained: float | None = None,
    outside: float = 0.0,
    probability: float = PROBABILITY,
) -> Certificate:
    """Bound the Frank-Wolfe gap ``max_p f(p) - sum_p w_p f(p)`` by the model's posterior.

    The gap is at least the distance from the best mixture, for the objective is convex (Jaggi 2013). The
    prompts that may be best are drawn jointly with those of the set; all the others are allowed for by the
    sum of their tails beyond the bound, so that none is left out (half of the risk goes to either).

    Args:
        model: of f, the values of the measured prompts.
        weights: of the measured prompts, (n,), in the model's order.
        others: codes of the prompts that were not measured, (p, slots).
        complete: whether these are all the prompts of the template.
        gained: by how much the set is nearer than the baseline, for `Certificate.share`.
        outside: weight times value of prompts of the set that the template does not hold.
    """
    risk = 1 - probability
    mean, sd = _predict(model, others)
    order = np.argsort(-(mean + 3 * sd), kind="stable")
    joint, rest = order[:_JOINT], order[_JOINT:]
    draws = model.draws(others[joint], _DRAWS, rng)
    n = len(weights)
    level = draws[:, :n] @ weights + outside
    gaps = np.maximum(draws.max(axis=1) - level, 0.0)
    share = risk / 2 if len(rest) else risk
    bound = float(np.quantile(gaps, 1 - share))
    if len(rest):
        center, spread = float(level.mean()), float(level.std())
        bound = _beyond(mean[rest] - center, np.hypot(sd[rest], spread), bound, share)
    ratio = bound / gained if gained is not None and gained > 0 else None
    return Certificate(bound, float(gaps.mean()), probability, ratio, n + len(others), complete)


def _predict(model: SlotModel, codes: IntArray) -> tuple[FloatArray, FloatArray]:
    parts = [model.predict(codes[i : i + _BLOCK]) for i in range(0, len(codes), _BLOCK)]
    if not parts:
        return np.empty(0), np.empty(0)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _beyond(lead: FloatArray, sd: FloatArray, least: float, risk: float) -> float:
    """The smallest bound from `least` on that the prompts together exceed with at most `risk`."""

    def chance(bound: float) -> float:
        return float(ndtr((lead - bound) / np.maximum(sd, 1e-12)).sum())

    if chance(least) <= risk:
        return least
    low, high = least, max(2 * least, float((lead + 8 * sd).max()), 1e-9)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) <= risk else (middle, high)
    return high
