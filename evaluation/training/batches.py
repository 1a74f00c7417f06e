"""Which pictures and which captions a step uses: a pure function of (seed, step)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evaluation.training.loop import rng_for


class Batches:
    """Batches of row numbers; every epoch is a new permutation from (seed, epoch).

    ``groups`` (n,), where given, names rows that are interchangeable (here: the same captions). The members
    of a group are dealt out evenly over the epoch, so that a batch holds as few of them as can be.
    """

    def __init__(self, rows: int, *, batch_size: int, seed: int, groups: Sequence[int] | None = None) -> None:
        self._groups = np.arange(rows) if groups is None else np.asarray(groups)
        self._size = min(batch_size, rows)
        self._seed = seed
        self._count = rows // self._size
        self._order = lru_cache(maxsize=1)(self._order_of)

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """The rows of a step; what is left over at the end of an epoch sits that epoch out."""
        epoch, index = divmod(step, self._count)
        return self._order(epoch)[index * self._size : (index + 1) * self._size]

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        rng = rng_for(self._seed, 1, epoch)
        shuffled = rng.permutation(len(self._groups))
        _, groups, sizes = np.unique(self._groups[shuffled], return_inverse=True, return_counts=True)
        # rank of every row within its group, in shuffled order
        by_group = np.argsort(groups, kind="stable")
        ranks = np.empty(len(groups), dtype=np.int64)
        ranks[by_group] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        slots = (ranks + rng.random(len(sizes))[groups]) / sizes[groups]
        return shuffled[np.argsort(slots, kind="stable")]


def draw_captions(
    rows: NDArray[np.int64], captions: Sequence[Sequence[int]], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One caption for each row, none of them twice; returns (rows kept, caption of each).

    A row draws one of its captions at random; if a row before it has drawn the same caption, it takes its
    next one, and if all of them are taken it sits this step out. A pair of equal captions would each be a
    false negative of the other in the contrastive loss.
    """
    taken: set[int] = set()
    kept: list[tuple[int, int]] = []
    for row in rows:
        own = captions[row]
        for choice in rng.permutation(len(own)):
            if own[choice] not in taken:
                taken.add(own[choice])
                kept.append((int(row), own[choice]))
                break
    pairs = np.asarray(kept, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
