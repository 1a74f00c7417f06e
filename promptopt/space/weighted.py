"""A space written as a template again, with other weights."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from types import MappingProxyType

from promptopt.space._space import PromptSpace

_SPECIAL = re.compile(r"[\\{}|_$:#/]")
_LEAST = 0.001
"""Options of a smaller weight are left out."""


Together = Mapping[tuple[str, str], Mapping[tuple[str, str], float]]
"""Two slots that follow each other -> an option of each -> weight."""


def weighted_template(
    space: PromptSpace,
    weights: Mapping[str, Mapping[str, float]],
    *,
    together: Together = MappingProxyType({}),
) -> str:
    """The template text of a space with other weights of its options, without wildcards or variables.

    Args:
        space: of prompt slots alone, see `can_be_weighted`.
        weights: slot -> option -> weight, 0 or more, one above 0 in each slot.
        together: weights of both, for pairs out of `adjacent_slots`; they become one choice, and their own
            weights count no more.

    Raises:
        ValueError: a slot without a weight above 0, or a space that cannot be written so.

    Example:
        >>> from promptopt.space import compile_template
        >>> space = compile_template("a {dim|bright} polyp")
        >>> weighted_template(space, {"slot1": {"dim": 0.9, "bright": 0.1}})
        'a {90::dim|10::bright} polyp'
        >>> space = compile_template("a {small|large} {red|pale} polyp")
        >>> both = {("small", "red"): 0.5, ("large", "pale"): 0.5}
        >>> weighted_template(space, {}, together={("slot1", "slot2"): both})
        'a {50::small red|50::large pale} polyp'
    """
    if not can_be_weighted(space):
        raise ValueError("the space varies more than the words of a prompt, or has shared variables")
    layout, found = list(space.layout), list[str]()
    while layout:
        piece = layout.pop(0)
        if isinstance(piece, str):
            found.append(escaped(piece))
            continue
        second = next((t for s, t in together if s == piece.slot), None)
        if second is None:
            found.append(_variant(weights[piece.slot], piece.slot))
            continue
        between = ""
        while isinstance(following := layout.pop(0), str):
            between += following
        joint = {a + between + b: 0.0 for a, b in together[piece.slot, second]}  # two pairs may say the same
        for (a, b), weight in together[piece.slot, second].items():
            joint[a + between + b] += weight
        found.append(_variant(joint, f"{piece.slot}, {second}"))
    return "".join(found)


def adjacent_slots(space: PromptSpace) -> list[tuple[str, str]]:
    """Slots with no other between them in the prompt, each of them in it once.

    Example:
        >>> from promptopt.space import compile_template
        >>> adjacent_slots(compile_template("a {small|large} {red|pale} polyp{, blurred|}"))
        [('slot1', 'slot2'), ('slot2', 'slot3')]
    """
    names = [piece.slot for piece in space.layout if not isinstance(piece, str)]
    return [(s, t) for s, t in itertools.pairwise(names) if names.count(s) == names.count(t) == 1]


def can_be_weighted(space: PromptSpace) -> bool:
    """Whether all that varies is words, each slot by itself."""
    return all(slot.kind == "prompt" and not slot.contents for slot in space.slots)


def _variant(weights: Mapping[str, float], slot: str) -> str:
    total = sum(weights.values())
    if not total > 0:
        raise ValueError(f"slot {slot!r} has no option with a weight above 0")
    kept = {option: w / total for option, w in weights.items() if w >= _LEAST * total}
    options = (f"{100 * w:.3g}::{escaped(option)}" for option, w in kept.items())
    return "{" + "|".join(options) + "}"


def escaped(text: str) -> str:
    """Words as a template that says just them."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], text)
