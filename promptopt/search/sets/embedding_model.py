"""The embedding of any prompt, and of any product of slot distributions, from those of the measured prompts.

A Gaussian process whose values are kernel mean embeddings (vector-valued kriging with one covariance over
slots): the embedding of a prompt is a weighted sum of the measured ones, ``mu_p = sum_i a_i(p) mu_i`` with
``a(p) = B^-1 c(p)``, B the slot covariance of the measured prompts plus the noise of their few images. A
product distribution q over slots, or over blocks of one slot or a pair, has ``c(q) = E_{p ~ q} c(p)`` in
closed form, so ``mu_q`` needs no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from promptopt.search.model.kernel import sum_and_pairs
from promptopt.search.model.noise import IntArray
from promptopt.search.model.slot_model import correlations
from promptopt.search.sets.embeddings import FloatArray, Form

Blocks = Sequence[tuple[int, ...]]
"""Slots that are drawn together, one or two; each slot is in one block."""

_PRIOR = np.log([1.0, 0.4, 0.2, 1.0])  # shares of options, pairs, own; and of the noise of one image
_LIMITS = (-7.0, 5.0)
_CONSTANT = 30.0  # variance of what all prompts have in common, in units of the rest


@dataclass(frozen=True, eq=False)
class EmbeddingModel:
    """Fitted to a form; `shares` are the variances of options, pairs of options and the prompt's own.

    Attributes:
        codes: options of the measured prompts as numbers, (k, slots).
        inverse: B^-1, (k, k).
    """

    codes: IntArray
    shares: FloatArray
    inverse: FloatArray

    @classmethod
    def fit(cls, codes: IntArray, form: Form) -> EmbeddingModel:
        """Variances of greatest posterior density, the common scale of all coordinates profiled out.

        For embeddings with Gram matrix G (k, k) whose coordinates are independent draws of one process with
        covariance ``s B``, the likelihood profiled over s is ``-k log tr(B^-1 G) - log |B|`` a coordinate.
        """
        gram = form.within + form.error
        parts = correlations(codes, codes)
        noise = np.diag(1.0 / form.counts)
        k = len(gram)

        def loss(logs: FloatArray) -> float:
            factor, lower = cho_factor(_whole(np.exp(logs), parts, noise), lower=True)
            fit = k * float(np.log(max(np.trace(cho_solve((factor, lower), gram)), 1e-300)))
            return 0.5 * (fit + 2 * float(np.log(np.diag(factor)).sum())) + 0.5 * float(
                ((logs - _PRIOR) ** 2).sum()
            )

        fitted = minimize(loss, _PRIOR, method="L-BFGS-B", bounds=[_LIMITS] * 4, options={"maxiter": 20})
        whole = _whole(np.exp(fitted.x), parts, noise)
        shares = np.asarray(np.exp(fitted.x[:3]), dtype=np.float64)
        return cls(codes, shares, np.asarray(np.linalg.inv(whole), dtype=np.float64))

    def weights(self, product: Sequence[FloatArray], blocks: Blocks) -> FloatArray:
        """a(q), (k,), of a product distribution q over blocks: probabilities of each block's options."""
        hits, joint = self._hits(product, blocks)
        return np.asarray(self.inverse @ self._covariance(hits, joint, blocks))

    def pull(self, product: Sequence[FloatArray], blocks: Blocks, gradient: FloatArray) -> list[FloatArray]:
        """The derivative of ``gradient' a(q)`` by every probability of q, a list like `product`."""
        hits, joint = self._hits(product, blocks)
        slots = hits.shape[1]
        pairs = max(1, slots * (slots - 1) // 2)
        back = self.inverse @ gradient
        total = hits.sum(axis=1)
        found: list[FloatArray] = []
        for b, (block, p) in enumerate(zip(blocks, product, strict=True)):
            own = [self.codes[:, s] for s in block]
            rest = self.shares[2] * np.prod(np.delete(joint, b, axis=1), axis=1)
            others = total - hits[:, list(block)].sum(axis=1)
            each = back * (self.shares[0] / slots + self.shares[1] * others / pairs)
            if len(block) == 1:
                alone = np.bincount(own[0], weights=each + back * rest, minlength=len(p))
                found.append(np.asarray(alone, dtype=np.float64))
            else:  # by the first slot's option, by the second's, and by both
                sums: FloatArray = np.zeros(p.shape)
                np.add.at(sums, (own[0], own[1]), back * (self.shares[1] / pairs + rest))
                sums += np.bincount(own[0], weights=each, minlength=p.shape[0])[:, None]
                sums += np.bincount(own[1], weights=each, minlength=p.shape[1])
                found.append(sums)
        return found

    def _hits(self, product: Sequence[FloatArray], blocks: Blocks) -> tuple[FloatArray, FloatArray]:
        """Probabilities under q of the option that each measured prompt has, by slot and by block."""
        hits, joint = np.empty(self.codes.shape), np.empty((len(self.codes), len(blocks)))
        for b, (block, p) in enumerate(zip(blocks, product, strict=True)):
            own = [self.codes[:, s] for s in block]
            joint[:, b] = p[tuple(own)]
            for axis, s in enumerate(block):
                hits[:, s] = joint[:, b] if len(block) == 1 else p.sum(axis=1 - axis)[own[axis]]
        return hits, joint

    def _covariance(self, hits: FloatArray, joint: FloatArray, blocks: Blocks) -> FloatArray:
        slots = hits.shape[1]
        total, pairs = sum_and_pairs(hits.T)
        for b, block in enumerate(blocks):
            if len(block) == 2:
                s, t = block
                pairs = pairs + (joint[:, b] - hits[:, s] * hits[:, t]) / (slots * (slots - 1) // 2)
        return np.asarray(
            _CONSTANT * self.shares.sum()
            + self.shares[0] * total / slots
            + self.shares[1] * pairs
            + self.shares[2] * np.prod(joint, axis=1)
        )


def _whole(variances: FloatArray, parts: FloatArray, noise: FloatArray) -> FloatArray:
    shares = variances[:3]
    found = _CONSTANT * shares.sum() + np.tensordot(shares, parts, axes=1) + variances[3] * noise
    return np.asarray(found + 1e-9 * shares.sum() * np.eye(len(found)))
