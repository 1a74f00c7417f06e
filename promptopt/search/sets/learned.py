"""A template that learned: the distribution over its options that comes nearest to the target."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from promptopt.search.model.noise import IntArray
from promptopt.search.sets.embedding_model import Blocks, EmbeddingModel
from promptopt.search.sets.embeddings import FloatArray, Form
from promptopt.search.sets.weights import Problem

STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Weights of the divergence from the template that are tried, in units of the template's own distance."""
MOST_PAIRS = 2
"""Pairs of slots with a distribution of their own; each has to lower the distance to real images held out."""
_MOST_OPTIONS = 200  # of a pair together
_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Product:
    """A distribution over prompts in which slots are independent, but for some pairs.

    Attributes:
        probabilities: of the options of each block; of a pair, shape (options of the first, of the second).
        blocks: the slots of each, one or a pair.
        strength: the weight of the divergence from the template that it was fitted with.
        predicted: MMD^2 less the real images' own term, as the model of embeddings predicts it.
    """

    probabilities: tuple[FloatArray, ...]
    blocks: Blocks
    strength: float
    predicted: float

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The slots that go together."""
        return tuple((block[0], block[1]) for block in self.blocks if len(block) == 2)

    @property
    def marginals(self) -> tuple[FloatArray, ...]:
        """Probabilities of each slot's options, by slot."""
        found: dict[int, FloatArray] = {}
        for block, p in zip(self.blocks, self.probabilities, strict=True):
            for axis, slot in enumerate(block):
                found[slot] = p if p.ndim == 1 else p.sum(axis=1 - axis)
        return tuple(found[slot] for slot in range(len(found)))

    def sample(self, rng: np.random.Generator) -> list[int]:
        """The number of the option of each slot, drawn block by block."""
        found: dict[int, int] = {}
        for block, p in zip(self.blocks, self.probabilities, strict=True):
            drawn = np.unravel_index(int(rng.choice(p.size, p=p.ravel())), p.shape)
            found |= {slot: int(option) for slot, option in zip(block, drawn, strict=True)}
        return [found[slot] for slot in range(len(found))]


def learn(
    form: Form,
    problem: Problem,
    codes: IntArray,
    template: Sequence[Sequence[float]],
    *,
    adjacent: Sequence[tuple[int, int]] = (),
    seed: int = 0,
) -> Product:
    """Fit a product; how near it stays to the template, and which slots go together, on images held out.

    The weight of the divergence is the one of `STRENGTHS` that comes nearest to the real images held out.
    Then a pair of slots, and perhaps a second, gets a distribution of its own where that lowers the distance
    by more than two standard errors of the difference over real images, as several pairs are tried.

    Args:
        form, problem: of the measured prompts of the template.
        codes: their options, (k, slots).
        template: probabilities of each slot's options.
        adjacent: pairs that may go together.
        seed: of the folds.
    """
    model = EmbeddingModel.fit(codes, form)
    own = [(slot,) for slot in range(len(template))]
    unit = max(float(form.mmd(model.weights([np.asarray(p) for p in template], own))), 1e-6)
    m = form.per_real.shape[1]
    fold_of = np.random.default_rng([seed, 0x1EA]).permutation(m) % min(_FOLDS, m)

    def held_out(strength: float, pairs: Sequence[tuple[int, int]]) -> FloatArray:
        """MMD^2 to each real image held out, less the real images' own term, (m,)."""
        found = np.empty(m)
        for fold in range(int(fold_of.max()) + 1):
            seen, rest = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            part = form.over_reals(seen)
            q = fit_product(part, problem.over(part), model, template, strength=strength, pairs=pairs)
            a = model.weights(q.probabilities, q.blocks)
            found[rest] = a @ form.within @ a - 2 * a @ form.per_real[:, rest]
        return found

    tried = [held_out(strength * unit, ()) for strength in STRENGTHS]
    by_fold = [sum(row[fold_of == fold].mean() for fold in range(int(fold_of.max()) + 1)) for row in tried]
    best = int(np.argmin(by_fold))
    strength, now = STRENGTHS[best] * unit, tried[best]
    pairs: list[tuple[int, int]] = []
    sizes = [int(np.count_nonzero(p)) for p in template]
    while len(pairs) < MOST_PAIRS:
        taken = set(itertools.chain(*pairs))
        free = [
            (s, t)
            for s, t in adjacent
            if not taken & {s, t} and min(sizes[s], sizes[t]) > 1 and sizes[s] * sizes[t] <= _MOST_OPTIONS
        ]
        rows = {pair: held_out(strength, [*pairs, pair]) for pair in free}
        if not rows:
            break
        pair = min(rows, key=lambda one: float(rows[one].mean()))
        gap = rows[pair] - now
        if gap.mean() >= -2 * gap.std(ddof=1) / np.sqrt(m):
            break
        pairs.append(pair)
        now = rows[pair]
    return fit_product(form, problem, model, template, strength=strength, pairs=pairs)


def fit_product(
    form: Form,
    problem: Problem,
    model: EmbeddingModel,
    template: Sequence[Sequence[float]],
    *,
    strength: float,
    pairs: Sequence[tuple[int, int]] = (),
) -> Product:
    """Minimize ``J(q) + strength KL(q | template)`` over product distributions q.

    The mixture's embedding is the model's, a weighted sum of those of measured prompts; with the weights a,
    ``J = a'Qa - 2 a'b + a't``. Solved over logits by L-BFGS with the exact gradient; options that the
    template gives no weight keep none.

    Args:
        form: of the measured prompts.
        problem: its quadratic and linear terms.
        template: probabilities of each slot's options: where the search starts from.
        strength: 0 or more, in units of the objective.
        pairs: slots that have one distribution together; no slot is in two.
    """
    alone = [np.asarray(p, dtype=np.float64) / float(np.sum(p)) for p in template]
    with_first = dict(pairs)
    others = set(with_first.values())
    blocks: Blocks = [
        (s, with_first[s]) if s in with_first else (s,) for s in range(len(alone)) if s not in others
    ]
    start = [alone[b[0]] if len(b) == 1 else np.outer(alone[b[0]], alone[b[1]]) for b in blocks]
    ends = np.cumsum([p.size for p in start])[:-1]

    def unpack(logits: FloatArray) -> list[FloatArray]:
        return [
            _tilted(p, part.reshape(p.shape)) for p, part in zip(start, np.split(logits, ends), strict=True)
        ]

    def loss(logits: FloatArray) -> tuple[float, FloatArray]:
        q = unpack(logits)
        a = model.weights(q, blocks)
        slopes = model.pull(q, blocks, problem.gradient(a))
        value = problem.value(a)
        gradient = []
        for p, own, slope in zip(start, q, slopes, strict=True):
            ratio = np.where(own > 0, np.log(np.maximum(own, 1e-300) / np.maximum(p, 1e-300)), 0.0)
            value += strength * float((own * ratio).sum())
            total = slope + strength * (ratio + 1)
            gradient.append((own * (total - (own * total).sum())).ravel())
        return value, np.concatenate(gradient)

    fitted = minimize(loss, np.zeros(sum(p.size for p in start)), jac=True, method="L-BFGS-B")
    q = unpack(fitted.x)
    a = model.weights(q, blocks)
    return Product(tuple(q), blocks, strength, float(a @ form.within @ a - 2 * a @ form.across))


def _tilted(probabilities: FloatArray, logits: FloatArray) -> FloatArray:
    raised = np.where(probabilities > 0, probabilities * np.exp(logits - logits.max()), 0.0)
    return np.asarray(raised / raised.sum())
