"""What a step sees is a function of (seed, step) alone, so that no kill can change it."""

from __future__ import annotations

import hashlib

import torch


def seeded(seed: int, purpose: str, number: int) -> torch.Generator:
    """A CPU generator that depends on nothing but these three."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class DataOrder:
    """An endless stream of epochs, each a permutation from (seed, epoch); any step can be asked for."""

    def __init__(self, size: int, *, batch_size: int, seed: int) -> None:
        self._size, self._batch, self._seed = size, batch_size, seed
        self._permutations: dict[int, list[int]] = {}

    def batch(self, step: int) -> list[int]:
        """Indices of the samples of a step; a batch may begin in one epoch and end in the next."""
        places = range(step * self._batch, (step + 1) * self._batch)
        return [self._permutation(place // self._size)[place % self._size] for place in places]

    def _permutation(self, epoch: int) -> list[int]:
        if epoch not in self._permutations:
            for old in [e for e in self._permutations if e < epoch - 1]:
                del self._permutations[old]
            order = torch.randperm(self._size, generator=seeded(self._seed, "epoch", epoch))
            self._permutations[epoch] = order.tolist()
        return self._permutations[epoch]
