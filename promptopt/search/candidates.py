"""The prompts a model may choose from: all of a small space, else a sample and neighbors of the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from promptopt.space import Candidate, PromptSpace

ENUMERABLE = 20_000  # spaces up to this size are listed in full
_SAMPLED = 4_000  # unmeasured prompts that a model looks at in one step
_NEIGHBORS_OF = 5  # best prompts of which every one-slot change is looked at

Choice = Mapping[str, str]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


class Candidates:
    """The prompts of a space by their normalized key, with their options as numbers.

    Prompts that differ only in case, punctuation and spaces are one: the first of them.

    Args:
        listed: candidate -> choice of every prompt, or None for a space too large to list.
    """

    def __init__(self, space: PromptSpace, listed: Mapping[Candidate, Choice] | None) -> None:
        self.space = space
        self.listed: dict[str, Choice] | None = None
        if listed is not None:
            self.listed = {}
            for candidate, choice in listed.items():
                self.listed.setdefault(candidate.normalized_key, choice)
        self._numbers = [{option: i for i, option in enumerate(slot.options)} for slot in space.slots]
        self._names = [slot.name for slot in space.slots]
        self._nested = any(slot.contents for slot in space.slots)
        self._places = {key: i for i, key in enumerate(self.listed or ())}
        self._places_of_choices: dict[tuple[str, ...], int] = {}
        self._codes = None if self.listed is None else self.codes(list(self.listed.values()))

    def key(self, choice: Choice) -> str:
        """The normalized key of a choice's prompt: what `known` mappings have it under."""
        return self.space.candidate(choice).normalized_key

    def codes(self, choices: Sequence[Choice]) -> IntArray:
        """Shape (n, slots)."""
        pairs = list(zip(self._names, self._numbers, strict=True))
        rows = [[numbers[choice[name]] for name, numbers in pairs] for choice in choices]
        return np.array(rows, dtype=np.int64).reshape(len(choices), len(pairs))

    def choice(self, code: Sequence[int] | IntArray) -> Choice:
        """Inverse of `codes`, for one row."""
        return {s.name: s.options[int(i)] for s, i in zip(self.space.slots, code, strict=True)}

    def unmeasured(
        self, known: Mapping[str, Choice], best: Sequence[Choice], rng: np.random.Generator
    ) -> IntArray:
        """Codes of prompts to choose from, none of them in `known`.

        All of them where there are at most 4,000; else the one-slot neighbors of the first of `best` and a
        sample, of spaces too large to list half by the template's weights.
        """
        if self.listed is not None:
            assert self._codes is not None
            return self._codes[self._numbers_of(known, best, rng)]
        return self._new([*self._neighbors(best)], self._sample(rng), known)

    def _new(self, near: Sequence[Choice], sample: IntArray, known: Mapping[str, Choice]) -> IntArray:
        """Each once, none that is known."""
        measured = self.codes(list(known.values()))
        both = np.concatenate([measured, self.codes(near), sample])
        _, first = np.unique(both, axis=0, return_index=True)
        new = both[np.sort(first[first >= len(measured)])]
        if not self._nested:  # options that differ give prompts that differ, up to spaces and commas
            return new
        found: dict[str, IntArray] = {}
        for row in new:
            found.setdefault(self.key(self.choice(row)), row)
        rows = [row for key, row in found.items() if key not in known]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self._names))

    def _numbers_of(
        self, known: Mapping[str, Choice], best: Sequence[Choice], rng: np.random.Generator
    ) -> list[int]:
        taken = {self._places[key] for key in known if key in self._places}
        if len(self._places) <= _SAMPLED:
            return [i for i in range(len(self._places)) if i not in taken]
        near = [self._place(choice) for choice in self._neighbors(best)]
        drawn = rng.choice(len(self._places), size=_SAMPLED, replace=False).tolist()
        return [i for i in dict.fromkeys([*near, *drawn]) if i not in taken]

    def _place(self, choice: Choice) -> int:
        """Of a listed prompt; the same few are asked for at every step."""
        options = tuple(choice[name] for name in self._names)
        if options not in self._places_of_choices:
            self._places_of_choices[options] = self._places[self.key(choice)]
        return self._places_of_choices[options]

    def _neighbors(self, best: Sequence[Choice]) -> Iterator[Choice]:
        for center in best[:_NEIGHBORS_OF]:
            for slot in self.space.slots:
                for option in slot.options:
                    yield {**center, slot.name: option}

    def _sample(self, rng: np.random.Generator) -> IntArray:
        """Half by the template's weights, half evenly."""
        slots, count = self.space.slots, _SAMPLED // 8
        weighted = [rng.choice(len(slot.options), size=count, p=slot.weights) for slot in slots]
        evenly = rng.integers(0, [len(slot.options) for slot in slots], size=(count, len(slots)))
        return np.concatenate([np.stack(weighted, axis=1), evenly])

    def fresh(self, known: Mapping[str, Choice], rng: np.random.Generator) -> Choice | None:
        """A random prompt that is not in `known`; None when there is none left."""
        if self.listed is not None:
            rest = [choice for key, choice in self.listed.items() if key not in known]
            return rest[int(rng.integers(len(rest)))] if rest else None
        for _ in range(1000):  # of more than 20,000 a new one comes at once, unless weights forbid it
            choice = self.space.sample(rng)
            if self.key(choice) not in known:
                return choice
        return None
