"""A space written as a template again, with other weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from promptopt.space._space import PromptSpace, Reference

_SPECIAL = re.compile(r"[\\{}|_$:#/]")
_LEAST = 0.001
"""Options of a smaller weight are left out."""


def weighted_template(space: PromptSpace, weights: Mapping[str, Mapping[str, float]]) -> str:
    """The template text of a space with other weights of its options, without wildcards or variables.

    Args:
        space: of prompt slots alone, see `can_be_weighted`.
        weights: slot -> option -> weight, 0 or more, one above 0 in each slot.

    Raises:
        ValueError: a slot without a weight above 0, or a space that cannot be written so.

    Example:
        >>> from promptopt.space import compile_template
        >>> space = compile_template("a {dim|bright} polyp")
        >>> weighted_template(space, {"slot1": {"dim": 0.9, "bright": 0.1}})
        'a {90::dim|10::bright} polyp'
    """
    if not can_be_weighted(space):
        raise ValueError("the space varies more than the words of a prompt, or has shared variables")
    return "".join(
        escaped(piece) if isinstance(piece, str) else _variant(weights[piece.slot], piece)
        for piece in space.layout
    )


def can_be_weighted(space: PromptSpace) -> bool:
    """Whether all that varies is words, each slot by itself."""
    return all(slot.kind == "prompt" and not slot.contents for slot in space.slots)


def _variant(weights: Mapping[str, float], piece: Reference) -> str:
    total = sum(weights.values())
    if not total > 0:
        raise ValueError(f"slot {piece.slot!r} has no option with a weight above 0")
    kept = {option: w / total for option, w in weights.items() if w >= _LEAST * total}
    options = (f"{100 * w:.3g}::{escaped(option)}" for option, w in kept.items())
    return "{" + "|".join(options) + "}"


def escaped(text: str) -> str:
    """Words as a template that says just them."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], text)
