"""A template that learned: the product distribution over its options that comes nearest to the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from promptopt.search.sets.embedding_model import EmbeddingModel
from promptopt.search.sets.embeddings import FloatArray, Form
from promptopt.search.sets.weights import Problem

STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Weights of the divergence from the template that are tried, in units of the template's own distance."""


@dataclass(frozen=True, eq=False)
class Product:
    """A distribution over prompts in which slots are independent.

    Attributes:
        probabilities: of each slot's options, in the slot's order.
        strength: the weight of the divergence from the template that it was fitted with.
        predicted: MMD^2 less the real images' own term, as the model of embeddings predicts it.
    """

    probabilities: tuple[FloatArray, ...]
    strength: float
    predicted: float


def fit_product(
    form: Form,
    problem: Problem,
    model: EmbeddingModel,
    template: Sequence[Sequence[float]],
    *,
    strength: float,
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
    """
    start = [np.asarray(p, dtype=np.float64) / float(np.sum(p)) for p in template]
    ends = np.cumsum([len(p) for p in start])[:-1]

    def unpack(logits: FloatArray) -> list[FloatArray]:
        return [_tilted(p, part) for p, part in zip(start, np.split(logits, ends), strict=True)]

    def loss(logits: FloatArray) -> tuple[float, FloatArray]:
        q = unpack(logits)
        a = model.weights(q)
        slopes = model.pull(q, problem.gradient(a))
        value = problem.value(a)
        gradient = []
        for p, own, slope in zip(start, q, slopes, strict=True):
            ratio = np.where(own > 0, np.log(np.maximum(own, 1e-300) / np.maximum(p, 1e-300)), 0.0)
            value += strength * float(own @ ratio)
            total = slope + strength * (ratio + 1)
            gradient.append(own * (total - own @ total))
        return value, np.concatenate(gradient)

    fitted = minimize(loss, np.zeros(int(sum(map(len, start)))), jac=True, method="L-BFGS-B")
    q = unpack(fitted.x)
    a = model.weights(q)
    return Product(tuple(q), strength, float(a @ form.within @ a - 2 * a @ form.across))


def _tilted(probabilities: FloatArray, logits: FloatArray) -> FloatArray:
    raised = np.where(probabilities > 0, probabilities * np.exp(logits - logits.max()), 0.0)
    return np.asarray(raised / raised.sum())
