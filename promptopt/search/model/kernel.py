"""The kernel over prompts that both models share: an analysis of variance over slots (ANOVA).

Notation, here, in `slot_model` and in `variances`:

======= =================== ==========================================================================
symbol  shape               meaning
======= =================== ==========================================================================
n       scalar              measured prompts
m       scalar              other prompts, asked about
S       scalar              slots of the template
P       scalar              pairs of slots, S (S - 1) / 2
a, b    (n, S), (m, S)      codes: the number of the option that each prompt has in each slot, from 0
o_s     scalar              options of slot s
y       (n,)                mean scores of the measured prompts
N       (n, n)              covariance of the noise of y, from `noise.means_with_noise`
k_s     (n, m)              correlation of two prompts' effects of slot s: 1 where the option is the
                            same, and 0 otherwise; -1 / (o_s - 1) where effects of a slot sum to 0
k_SUM   (n, m)              sum of k_s over the slots
k_PAIR  (n, m)              mean of k_s k_t over the pairs of slots s < t
I       (n, m)              1 where two prompts are the same, 0 otherwise
v       (3,) or (S + 2,)    variances: of the slots (together, or each), of the pairs, of a prompt's own
c       scalar              variance of the constant, the mean of all prompts
K       (n, n)              c + sum of v times its kernel + N: covariance of y
======= =================== ==========================================================================

A prompt's value is a constant, plus an effect of the option of every slot, plus effects of pairs of options,
plus one of its own; each is Gaussian with its variance (Durrande et al. 2013; Stitson et al. 1999). What y
says of another value f with covariance k with y is Gaussian, with mean k' K^-1 y and variance
var(f) - k' K^-1 k.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from promptopt.search.model.noise import FloatArray


def slot_kernel(a: Any, b: Any, *, options: int) -> FloatArray:
    """k_s for effects that sum to 0 over the `options` of a slot; `a` and `b` are codes that broadcast."""
    found: FloatArray = np.where(np.equal(a, b), 1.0, -1.0 / (options - 1))
    return found


def sum_and_pairs(kernels: Iterable[Any]) -> tuple[FloatArray, FloatArray]:
    """k_SUM and k_PAIR of the slots' kernels k_s; without a pair the second is 0.

    The sum of all products of two is half of what the square of the sum has beyond the sum of the squares
    (Newton's identity), so there is no loop over pairs.
    """
    total: Any = 0.0
    squares: Any = 0.0
    slots = 0
    for kernel in kernels:
        total, squares, slots = total + kernel, squares + kernel * kernel, slots + 1
    return total, (total**2 - squares) / 2 / max(1, slots * (slots - 1) // 2)
