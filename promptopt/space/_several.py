"""Several of a brace's options at a time: every combination, in the order written, with its probability."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

Options = dict[str, float]


def count(sizes: Sequence[int], low: int, high: int) -> int:
    """Number of combinations of `low` to `high` alternatives with `sizes` texts each, equal texts apart."""
    ways = [1] + [0] * high  # elementary symmetric polynomials of the sizes
    for size in sizes:
        for k in range(high, 0, -1):
            ways[k] += ways[k - 1] * size
    return sum(ways[low : high + 1])


def steps(weights: Sequence[float], high: int) -> int:
    """Number of sets that `combine` goes through, which may be more than there are combinations."""
    if len(set(weights)) == 1:
        return 0
    return sum(math.comb(len(weights), k) for k in range(high + 1))


def combine(alternatives: Sequence[tuple[float, Options]], *, low: int, high: int, separator: str) -> Options:
    """Texts of `low` to `high` different alternatives, joined, with their probabilities.

    The number is uniform on its range; then alternatives are drawn by weight without putting back. Their
    order is the one written: it says next to nothing about a picture, and would make the space k! as large.
    Where two alternatives come to the same text, it is not said twice. Empty texts leave no separator.

    Returns {} where no combination has different texts.
    """
    weights = [weight for weight, _ in alternatives]
    result: Options = {}
    for k in range(low, high + 1):
        found: Options = {}
        for chosen, probability in _draws(weights, k).items():
            for drawn in itertools.product(*(alternatives[i][1].items() for i in chosen)):
                texts = [text for text, _ in drawn]
                if len(set(texts)) < k:
                    continue
                joined = separator.join(text for text in texts if text.strip())
                found[joined] = found.get(joined, 0.0) + probability * math.prod(p for _, p in drawn)
        total = sum(found.values())
        for text, probability in found.items():
            result[text] = result.get(text, 0.0) + probability / total
    total = sum(result.values())
    return {text: probability / total for text, probability in result.items()}


def _draws(weights: Sequence[float], k: int) -> dict[tuple[int, ...], float]:
    """Sets of `k` indices -> probability to draw them one after another by weight, without putting back."""
    n = len(weights)
    if len(set(weights)) == 1:
        return dict.fromkeys(itertools.combinations(range(n), k), 1 / math.comb(n, k))
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    sets: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(k):
        longer: dict[tuple[int, ...], float] = {}
        for chosen, probability in sets.items():
            rest = [i for i in range(n) if i not in chosen]
            left = math.fsum(scaled[i] for i in rest)
            for i in rest:
                grown = tuple(sorted((*chosen, i)))
                longer[grown] = longer.get(grown, 0.0) + probability * scaled[i] / left
        sets = longer
    return dict(sorted(sets.items()))
