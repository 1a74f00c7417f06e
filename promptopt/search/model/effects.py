"""Which words help: the effect of each slot option on the score, and pairs that do more than their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from evaluation.estimate import Estimate, check_level
from promptopt.base.errors import ArgumentError
from promptopt.run.trials import TrialRow, latest
from promptopt.search.model.noise import FloatArray, IntArray, means_with_noise
from promptopt.search.model.variances import AnovaModel, Posterior, Target
from promptopt.space import PromptSpace

FEWEST_PROMPTS = 8
"""Prompts below which every effect is unreliable."""

FEWEST_WITH_OPTION = 3
"""Prompts with an option, or with both options of a pair, from which its effect is reliable, or tested."""

_MOST_PROMPTS = 400  # a model of more takes minutes; a random part of them is unbiased
_DRAWS = 200
_METHOD = "additive model of paired differences with random effects"


@dataclass(frozen=True)
class OptionEffect:
    """How much better a prompt is with an option than with the average option of its slot.

    Attributes:
        prompts: how many prompts with the option were tried.
        effect: in baseline SDs, shrunk toward 0; undefined when no prompt with the option was tried.
    """

    slot: str
    option: str
    prompts: int
    effect: Estimate


@dataclass(frozen=True)
class Interaction:
    """Two options that together do more, or less, than the sum of their effects.

    Attributes:
        slots, options: one of each slot, in the order of the template.
        prompts: how many prompts with both were tried.
        beyond: what they do beyond the sum, in baseline SDs; not shrunk, so the few that stand out are nearer
            to 0 in truth than they look. The interval is as wide as Holm's procedure asks at this place of
            the order, and leaves out 0.
        p: two-sided, not corrected.
    """

    slots: tuple[str, str]
    options: tuple[str, str]
    prompts: int
    beyond: Estimate
    p: float

    @property
    def sentence(self) -> str:
        """`'snare' with ', blurred': +0.80 (0.30 to 1.30) beyond the sum of its words`."""
        first, second = (repr(option) if option else "(left out)" for option in self.options)
        e = self.beyond
        return (
            f"{first} with {second}: {e.value:+.2f} ({e.low:.2f} to {e.high:.2f}) beyond the sum of its words"
        )


@dataclass(frozen=True)
class SlotEffects:
    """What the trials say about the words.

    Attributes:
        effects: one an option, in template order; slots with a single option are left out.
        interactions: those worth naming, the surest first; of `pairs_tested` pairs of options.
        average: mean score over all prompts of the space, each option as likely as any other of its slot.
        additive_share: of the differences between prompts, what the options explain one by one, in [0, 1].
        pair_share: what pairs of them explain beyond that. The rest is each prompt's own.
        prompts: distinct prompts that this rests on, of the `prompts_tried`.
        level: of every interval; of the interactions all together.
    """

    effects: tuple[OptionEffect, ...]
    interactions: tuple[Interaction, ...]
    pairs_tested: int
    average: Estimate
    additive_share: Estimate
    pair_share: Estimate
    prompts: int
    prompts_tried: int
    level: float

    def of(self, slot: str) -> list[OptionEffect]:
        """The effects of one slot, the best first, those never tried last."""
        own = [e for e in self.effects if e.slot == slot]
        return sorted(own, key=lambda e: -np.inf if e.effect.value is None else e.effect.value, reverse=True)


def slot_effects(
    space: PromptSpace, rows: Sequence[TrialRow], *, level: float = 0.95, seed: int = 0
) -> SlotEffects:
    """Effect of every slot option on the score, with interval.

    The score of a prompt is taken as the mean of the space, plus an effect for each of its options, plus
    effects of its pairs of options, plus something of its own, plus the noise of its images. Effects of a
    slot sum to 0 over its options, however often each was tried; all are random effects whose variances come
    from the data, so an option that was tried once says little and cannot blow up. The noise of the images is
    shared between prompts, which are drawn with the same seeds and compared with the same baseline images,
    and counts as such; so do numbers of images that differ. Intervals are those of the posterior
    distribution, and hold 95 % of all options' true effects rather than 95 % for each option by itself: a
    shrunken effect of an extreme option lies nearer to 0 than the truth (scripts/bench/slot_effects.py).

    **Caution.** The search chose the prompts by what it had seen: promising options were tried together, poor
    ones dropped after a prompt or two. The model allows for that only as far as it is right, with effects
    that are about normal. It describes this space, generator and score; a word with a good effect is no cause
    of good images elsewhere. For a claim about one word, test it on fresh seeds.

    Args:
        rows: completed trials. Each one's `per_image["score"]` has the differences from the baseline on the
            first so many seeds of one panel; repeated prompts and rows without it are passed over. Of more
            than 400 prompts, 400 drawn by `seed` are used.
        level: coverage of the intervals, in (0, 1).
        seed: of the sampling from the variances' distribution.

    Returns:
        effects ``undefined`` for options never tried, and ``unreliable`` with fewer than 3 prompts with the
        option, fewer than 8 prompts in all, or only one option of the slot tried.

    Raises:
        ValueError: a wrong `level`, or a row whose options the space does not have.
    """
    check_level(level)
    slots = [slot for slot in space.slots if len(slot.options) > 1]
    scored = [row for row in latest(rows) if row.per_image.get("score")]
    used = scored
    if len(scored) > _MOST_PROMPTS:
        kept = np.random.default_rng([seed, 1]).choice(len(scored), _MOST_PROMPTS, replace=False)
        used = [scored[int(i)] for i in np.sort(kept)]
    codes = np.array(
        [[_index(row, slot.name, slot.options) for slot in slots] for row in used], dtype=np.int64
    )
    codes = codes.reshape(len(used), len(slots))
    values = [np.asarray(row.per_image["score"], dtype=np.float64) for row in used]
    scores = np.zeros(0)
    targets = [Target((s,), (o,)) for s, slot in enumerate(slots) for o in range(len(slot.options))]
    pairs = _pairs(codes, [len(slot.options) for slot in slots])
    posterior = None
    if used:
        scores, noise = means_with_noise(values, codes)
        if slots and np.ptp(scores) > 1e-9 * np.abs(scores).max():
            model = AnovaModel(scores, codes, [len(slot.options) for slot in slots], noise)
            posterior = model.posterior([*targets, *pairs], draws=_DRAWS, seed=seed)
    images = np.array([len(v) for v in values], dtype=np.int64)
    effects = []
    for place, target in enumerate(targets):
        slot, option = slots[target.slots[0]], target.options[0]
        has = codes[:, target.slots[0]] == option
        compared = len(np.unique(codes[:, target.slots[0]])) > 1
        sure = len(used) >= FEWEST_PROMPTS and has.sum() >= FEWEST_WITH_OPTION and compared
        estimate = Estimate.undefined(0, _METHOD)
        if has.any():
            estimate = _estimate(posterior, place, n=int(images[has].sum()), level=level, sure=bool(sure))
        effects.append(OptionEffect(slot.name, slot.options[option], int(has.sum()), estimate))
    named: list[Interaction] = []
    if posterior is not None and len(used) >= FEWEST_PROMPTS:
        for index, at_level, p in _holm(posterior, range(len(targets), len(targets) + len(pairs)), level):
            pair = pairs[index - len(targets)]
            both = (codes[:, pair.slots] == pair.options).all(axis=1)
            beyond = _estimate(posterior, index, n=int(images[both].sum()), level=at_level, sure=True)
            first, second = (slots[s] for s in pair.slots)
            options = (first.options[pair.options[0]], second.options[pair.options[1]])
            named.append(Interaction((first.name, second.name), options, int(both.sum()), beyond, p))
    return SlotEffects(
        tuple(effects),
        tuple(named),
        len(pairs),
        _average(posterior, scores, int(images.sum()), level),
        _share(posterior, 0, int(images.sum()), level, len(used)),
        _share(posterior, 1, int(images.sum()), level, len(used)),
        len(used),
        len(scored),
        level,
    )


def _index(row: TrialRow, slot: str, options: Sequence[str]) -> int:
    try:
        return options.index(row.choice[slot])
    except (KeyError, ValueError):
        raise ArgumentError(
            f"trial {row.number}: slot {slot!r} has {row.choice.get(slot)!r}, which the space does not have: "
            f"{', '.join(map(repr, options))}. Give the space that the trials were drawn from."
        ) from None


def _pairs(codes: IntArray, options: Sequence[int]) -> list[Target]:
    """Pairs of options that enough prompts have both of, and enough have one of without the other."""
    found = []
    for s, t in combinations(range(len(options)), 2):
        table = np.zeros((options[s], options[t]), dtype=np.int64)
        np.add.at(table, (codes[:, s], codes[:, t]), 1)
        alone_s = table.sum(axis=1, keepdims=True) - table
        alone_t = table.sum(axis=0, keepdims=True) - table
        enough = np.minimum(np.minimum(alone_s, alone_t), table) >= FEWEST_WITH_OPTION
        found += [Target((s, t), (int(a), int(b))) for a, b in np.argwhere(enough)]
    return found


def _holm(posterior: Posterior, places: Sequence[int], level: float) -> list[tuple[int, float, float]]:
    """Place, level and p of those that Holm's procedure (1979) tells from 0, the surest first."""
    from scipy.special import ndtr

    z = posterior.means[:, list(places)] / np.maximum(posterior.deviations[:, list(places)], 1e-12)
    above = posterior.weights @ ndtr(z)
    p = 2 * np.minimum(above, 1 - above)
    found = []
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        alpha = (1 - level) / (len(p) - rank)
        if p[i] >= alpha:
            break
        found.append((places[int(i)], 1 - alpha, float(p[i])))
    return found


def _estimate(posterior: Posterior | None, place: int, *, n: int, level: float, sure: bool) -> Estimate:
    if posterior is None:
        return Estimate(0.0, None, None, n, f"{_METHOD}; all prompts score the same", "unreliable")
    means, deviations = posterior.means[:, place], posterior.deviations[:, place]
    return _mixture(posterior.weights, means, deviations, n=n, level=level, sure=sure, method=_METHOD)


def _average(posterior: Posterior | None, scores: FloatArray, n: int, level: float) -> Estimate:
    method = f"mean over the space, {_METHOD}"
    if posterior is None:
        if not len(scores):
            return Estimate.undefined(0, method)
        return Estimate(float(scores.mean()), None, None, n, method, "unreliable")
    sure = len(scores) >= FEWEST_PROMPTS
    found = (posterior.weights, posterior.mean, posterior.mean_deviation)
    return _mixture(*found, n=n, level=level, sure=sure, method=method)


def _share(posterior: Posterior | None, which: int, n: int, level: float, prompts: int) -> Estimate:
    method = f"share of the variance between prompts, {_METHOD}"
    if posterior is None:
        return Estimate.undefined(n, method)
    values = posterior.shares[:, which]
    order = np.argsort(values)
    below = np.cumsum(posterior.weights[order])
    low, high = (values[order][min(int(np.searchsorted(below, q)), len(values) - 1)] for q in _tails(level))
    mean = float(posterior.weights @ values)
    status: Any = "ok" if prompts >= FEWEST_PROMPTS else "unreliable"
    return Estimate(mean, min(float(low), mean), max(float(high), mean), n, method, status)


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _mixture(
    weights: FloatArray,
    means: FloatArray,
    deviations: FloatArray,
    *,
    n: int,
    level: float,
    sure: bool,
    method: str,
) -> Estimate:
    """Mean and central interval of a mixture of normal distributions."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    spread = np.maximum(deviations, 1e-12)
    ends = float((means - 12 * spread).min()), float((means + 12 * spread).max())

    def quantile(q: float) -> float:
        return float(brentq(lambda x: float(weights @ ndtr((x - means) / spread)) - q, *ends, xtol=1e-9))

    low, high = (quantile(q) for q in _tails(level))
    value = float(weights @ means)
    status: Any = "ok" if sure else "unreliable"
    return Estimate(value, min(low, value), max(high, value), n, method, status)
