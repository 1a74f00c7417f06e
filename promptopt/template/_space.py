"""A compiled template: a static product of named categorical slots."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Slot:
    """`options` (distinct texts, one may be empty) with their `weights` (probabilities, sum 1)."""

    name: str
    options: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class PromptSpace:
    """What `compile_template` returns; see there.

    A choice is a mapping from every slot's name to one of its options. `literals` are the fixed texts around
    the slots: one before each and one after the last.
    """

    text: str
    literals: tuple[str, ...]
    slots: tuple[Slot, ...]

    @property
    def size(self) -> int:
        """Number of choices: the product of the slots' numbers of options, exact at any size."""
        return math.prod(len(slot.options) for slot in self.slots)

    def render(self, choice: Mapping[str, str]) -> str:
        """The prompt of a choice, white space and commas normalised.

        Raises ValueError for a missing or unknown slot, or an option that the slot does not have.
        """
        unknown = sorted(set(choice) - {slot.name for slot in self.slots})
        if unknown:
            raise ValueError(f"no slot {unknown[0]!r}; slots: {', '.join(slot.name for slot in self.slots)}")
        parts = [self.literals[0]]
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            if slot.name not in choice:
                raise ValueError(f"no option chosen for slot {slot.name!r}")
            option = choice[slot.name]
            if option not in slot.options:
                raise ValueError(
                    f"slot {slot.name!r} has no option {option!r}; options: {list(slot.options)}"
                )
            parts += [option, literal]
        return normalise("".join(parts))

    def likeliest(self) -> dict[str, str]:
        """The choice with the greatest weight in every slot, the first among equals."""
        return {s.name: s.options[max(range(len(s.options)), key=s.weights.__getitem__)] for s in self.slots}

    def sample(self, rng: "np.random.Generator") -> dict[str, str]:
        """A random choice, slots independent, options by weight."""
        return {
            slot.name: slot.options[int(rng.choice(len(slot.options), p=slot.weights))] for slot in self.slots
        }

    def enumerate(self) -> Iterator[dict[str, str]]:
        """Every choice once, the last slot changing fastest; as many as `size`."""
        names = [slot.name for slot in self.slots]
        for options in itertools.product(*(slot.options for slot in self.slots)):
            yield dict(zip(names, options, strict=True))

    def distinct(self, limit: int) -> dict[str, dict[str, str]]:
        """The first `limit` different prompts in `enumerate`'s order, each with the first choice for it."""
        found: dict[str, dict[str, str]] = {}
        if limit < 1:
            return found
        for choice in self.enumerate():
            found.setdefault(self.render(choice), choice)
            if len(found) >= limit:
                break
        return found


def normalise(prompt: str) -> str:
    """Tidy what empty options leave: double spaces, spaces before punctuation, doubled or outer commas."""
    prompt = re.sub(r"\s*,(\s*,)+", ",", prompt)
    prompt = re.sub(r"\s+([,;!?]|[.:](?!\d))", r"\1", prompt)
    prompt = re.sub(r"\s+", " ", prompt)
    return prompt.strip(" ,")
