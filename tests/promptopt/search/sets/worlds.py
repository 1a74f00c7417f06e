"""Planted worlds: images are points whose mean follows from a prompt's options; all is known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.metrics.mmd import median_bandwidth, mmd
from promptopt.search.candidates import ENUMERABLE, Candidates
from promptopt.search.sets.embeddings import MeanEmbeddings
from promptopt.search.sets.engine import Look, SetBudget, SetSearch, SetState
from promptopt.space import Candidate, compile_template


class World:
    """A template whose options move a point, and a target mixture of its prompts.

    Args:
        sizes: number of options of each slot.
        noise: SD of an image about its prompt's mean, half of the variance from its seed.
    """

    def __init__(
        self,
        seed: int,
        *,
        sizes: Sequence[int] = (3, 4, 3, 3),
        dim: int = 8,
        noise: float = 0.8,
        real: int = 40,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.sizes, self.noise, self.dim = tuple(sizes), noise, dim
        self._rng = np.random.default_rng(seed + 1000)
        self._options = [rng.normal(0, 1, (n, dim)) for n in sizes]
        self._pairs = {
            (i, j): rng.normal(0, 0.3, (sizes[i], sizes[j], dim))
            for i, j in itertools.combinations(range(len(sizes)), 2)
        }
        self._panel = rng.normal(size=(64, dim))
        self.target = [rng.dirichlet(np.full(n, 0.4)) for n in sizes]
        text = " ".join("{" + "|".join(f"s{s}o{o}" for o in range(n)) + "}" for s, n in enumerate(sizes))
        self.space = compile_template(text)
        listed = self.space.distinct(ENUMERABLE + 1) if self.space.size <= ENUMERABLE else None
        self.candidates = Candidates(self.space, listed)
        self.real = self.fresh(self.drawn(self.target, real))
        self.bandwidth = median_bandwidth(self.real)
        self.held_out = self.fresh(self.drawn(self.target, 800))

    def mean(self, code: Sequence[int]) -> np.ndarray:
        found = sum(self._options[s][code[s]] for s in range(len(code)))
        return np.asarray(found + sum(p[code[i], code[j]] for (i, j), p in self._pairs.items()))

    def drawn(self, product: Sequence[np.ndarray], count: int) -> np.ndarray:
        return np.stack([self._rng.choice(len(p), size=count, p=p) for p in product], axis=1)

    def fresh(self, codes: np.ndarray) -> np.ndarray:
        means = np.stack([self.mean(code) for code in codes])
        return means + self.noise * self._rng.normal(size=means.shape)

    def measure(self, code: Sequence[int], images: int) -> np.ndarray:
        own = np.random.default_rng([7, *map(int, code)]).normal(size=(64, self.dim))
        whole = self.mean(code) + self.noise * np.sqrt(0.5) * (self._panel + own)
        return np.asarray(whole[:images])

    def code(self, choice: Mapping[str, str]) -> tuple[int, ...]:
        return tuple(int(i) for i in self.candidates.codes([choice])[0])

    def distance(self, weights: Mapping[tuple[int, ...], float]) -> float:
        """MMD^2 of a mixture to held-out real images."""
        counts = self._rng.multinomial(800, np.array(list(weights.values())) / sum(weights.values()))
        codes = np.repeat(np.array(list(weights)), counts, axis=0)
        return float(mmd(self.fresh(codes), self.held_out, bandwidth=self.bandwidth).value or 0.0)

    def state(self) -> SetState:
        return SetState(self.candidates, MeanEmbeddings(self.real, bandwidth=self.bandwidth))

    def search(
        self, *, images: int, seed: int = 0, sampler: str = "auto", **budget: object
    ) -> tuple[SetSearch, SetState]:
        """A whole search."""
        plain = self.space.likeliest()
        settings: dict[str, object] = {"images": images, "tolerance": None, **budget}
        search = SetSearch(
            baseline=Look(self.space.candidate(plain), plain, 4),
            budget=SetBudget(**settings),
            seed=seed,  # type: ignore[arg-type]
            sampler=sampler,
        )
        state, step = self.state(), 0
        while True:
            looks, _ = search.next_step(state, step)
            if not looks:
                return search, state
            state.take([(look, self.measure(self.code(look.choice or plain), look.images)) for look in looks])
            step += 1

    def by_code(self, state: SetState, weights: Mapping[Candidate, float]) -> dict[tuple[int, ...], float]:
        choices = {c: state.looks[c].choice or self.space.likeliest() for c in weights}
        return {self.code(choices[c]): w for c, w in weights.items()}
