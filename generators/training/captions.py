"""Captions as token ids, chosen anew at every step; dropped now and then, mirrored with their pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from generators.training.tokenizer import is_too_long

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def swap_sides(text: str) -> str:
    """The caption of the mirrored picture: left and right exchanged, letter case kept."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        swapped = _OTHER[word.lower()]
        if word.isupper():
            return swapped.upper()
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDES.sub(other, text)


@dataclass(frozen=True)
class Captions:
    """``ids`` (captions, length) of every distinct caption; row 0 is the empty one, of guidance.

    ``rows[picture]`` are the rows of a picture's captions, ``mirrored[row]`` the row of the mirrored caption.
    ``too_long`` counts distinct captions that the text encoder cannot see whole.
    """

    ids: torch.Tensor
    rows: tuple[tuple[int, ...], ...]
    mirrored: tuple[int, ...]
    too_long: int

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], tokenizer: Any) -> "Captions":
        """Tokenise the captions of pictures; over-long ones are cut, and counted."""
        known = list(dict.fromkeys(text for captions in texts for text in captions))
        distinct = list(dict.fromkeys(["", *known, *(swap_sides(text) for text in known)]))
        row = {text: number for number, text in enumerate(distinct)}
        ids = tokenizer(
            distinct,
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return cls(
            ids=ids,
            rows=tuple(tuple(row[text] for text in captions) for captions in texts),
            mirrored=tuple(row.get(swap_sides(text), number) for number, text in enumerate(distinct)),
            too_long=sum(is_too_long(tokenizer, text) for text in known),
        )

    def draw(
        self, pictures: Sequence[int], *, mirror: Sequence[bool], dropout: float, generator: torch.Generator
    ) -> torch.Tensor:
        """Ids (n, length) of one caption a picture, drawn evenly from its own; empty at rate ``dropout``."""
        which = torch.rand(len(pictures), generator=generator).tolist()
        dropped = (torch.rand(len(pictures), generator=generator) < dropout).tolist()
        chosen = []
        for picture, flip, part, drop in zip(pictures, mirror, which, dropped, strict=True):
            own = self.rows[picture]
            row = own[min(int(part * len(own)), len(own) - 1)]
            row = self.mirrored[row] if flip else row
            chosen.append(0 if drop else row)
        return self.ids[chosen]
