"""A compiled template: a static product of named categorical slots."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from promptopt.base.errors import ArgumentError
from promptopt.space._tidy import normalize
from promptopt.space.candidate import Candidate, Value

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Reference:
    """Where the text of a slot's choice goes."""

    slot: str


Contents = tuple[str | Reference, ...]


def split_references(text: str) -> Contents:
    """A text with marked references (see `_expand.reference`) in pieces."""
    pieces = text.split("\0")
    return tuple(Reference(p) if i % 2 else p for i, p in enumerate(pieces) if p or i % 2)


@dataclass(frozen=True)
class Slot:
    """`options` (distinct texts, one may be empty) with their `weights` (probabilities, sum 1).

    Attributes:
        contents: each option in pieces, where some option shows an immediate variable (it then reads
            `... ${name} ...`); else empty.
        kind: what it varies: the prompt, the negative prompt, or a generation parameter.
        values: of a generation parameter, in the order of the options; else empty.

    Example:
        >>> from promptopt.space import compile_template
        >>> slot = compile_template("a {3::red|1::pale} polyp").slots[0]
        >>> slot.options, slot.weights
        (('red', 'pale'), (0.75, 0.25))
    """

    name: str
    options: tuple[str, ...]
    weights: tuple[float, ...]
    contents: tuple[Contents, ...] = field(default=(), repr=False)
    kind: Literal["prompt", "negative", "parameter"] = "prompt"
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class PromptSpace:
    """What `compile_template` returns; see there.

    A choice is a mapping from every slot's name to one of its options. `layout` is the prompt in order:
    fixed texts, and references to slots; `negative` likewise, or None where it does not vary.

    Example:
        >>> from promptopt.space import compile_template
        >>> space = compile_template("a {red|pale} polyp{, blurred|}")
        >>> space.size, space.render({"slot1": "red", "slot2": ""})
        (4, 'a red polyp')
    """

    text: str
    layout: Contents
    slots: tuple[Slot, ...]
    negative: Contents | None = None

    @property
    def size(self) -> int:
        """Number of choices: the product of the slots' numbers of options, exact at any size."""
        return math.prod(len(slot.options) for slot in self.slots)

    def render(self, choice: Mapping[str, str]) -> str:
        """The prompt of a choice, with white space, commas and articles tidied.

        Raises ValueError for a missing or unknown slot, or an option that the slot does not have.
        """
        return normalize("".join(_pieces(self.layout, self._checked(choice), choice)))

    def candidate(self, choice: Mapping[str, str]) -> Candidate:
        """The prompt of a choice and what it is drawn with. Raises what `render` does."""
        slots = self._checked(choice)
        negative = None
        if self.negative is not None:
            negative = normalize("".join(_pieces(self.negative, slots, choice)))
        parameters = {
            slot.name: slot.values[slot.options.index(choice[slot.name])]
            for slot in self.slots
            if slot.kind == "parameter"
        }
        return Candidate(normalize("".join(_pieces(self.layout, slots, choice))), negative, parameters)

    def _checked(self, choice: Mapping[str, str]) -> dict[str, Slot]:
        slots = {slot.name: slot for slot in self.slots}
        unknown = sorted(set(choice) - set(slots))
        if unknown:
            raise ArgumentError(f"no slot {unknown[0]!r}; slots: {', '.join(slots)}")
        for name, slot in slots.items():
            if name not in choice:
                raise ArgumentError(f"no option chosen for slot {name!r}")
            if choice[name] not in slot.options:
                raise ArgumentError(
                    f"slot {name!r} has no option {choice[name]!r}; options: {list(slot.options)}"
                )

        return slots

    def likeliest(self) -> dict[str, str]:
        """The choice with the greatest weight in every slot, the first among equals."""
        return {s.name: s.options[max(range(len(s.options)), key=s.weights.__getitem__)] for s in self.slots}

    def longest(self, length: Callable[[str], int]) -> dict[str, str]:
        """The choice with the longest option in every slot, by a length that adds up (such as a tokenizer's).

        Punctuation where two options meet may make another prompt longer by a token or so.
        """
        choice: dict[str, str] = {}
        slots = {slot.name: slot for slot in self.slots}
        for slot in self.slots:  # those that others show come before them

            def words(option: str, slot: Slot = slot) -> int:
                return length(_option_text(slots, {**choice, slot.name: option}, slot.name))

            choice[slot.name] = max(slot.options, key=words)
        return choice

    def sample(self, rng: np.random.Generator) -> dict[str, str]:
        """A random choice, slots independent, options by weight."""
        return {
            slot.name: slot.options[int(rng.choice(len(slot.options), p=slot.weights))] for slot in self.slots
        }

    def enumerate(self) -> Iterator[dict[str, str]]:
        """Every choice once, the last slot changing fastest; as many as `size`."""
        names = [slot.name for slot in self.slots]
        for options in itertools.product(*(slot.options for slot in self.slots)):
            yield dict(zip(names, options, strict=True))

    def distinct(self, limit: int) -> dict[Candidate, dict[str, str]]:
        """The first `limit` different candidates in `enumerate`'s order, with the first choice for each."""
        found: dict[Candidate, dict[str, str]] = {}
        if limit < 1:
            return found
        for choice in self.enumerate():
            found.setdefault(self.candidate(choice), choice)
            if len(found) >= limit:
                break
        return found


def _option_text(slots: Mapping[str, Slot], choice: Mapping[str, str], name: str) -> str:
    slot = slots[name]
    if not slot.contents:
        return choice[name]
    return "".join(_pieces(slot.contents[slot.options.index(choice[name])], slots, choice))


def _pieces(contents: Contents, slots: Mapping[str, Slot], choice: Mapping[str, str]) -> Iterator[str]:
    for piece in contents:
        yield piece if isinstance(piece, str) else _option_text(slots, choice, piece.slot)
