"""Captions, chosen anew at every step; dropped now and then, mirrored with their pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

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
    """``texts`` are all distinct captions; row 0 is the empty one, of guidance.

    ``rows[picture]`` are the rows of a picture's captions, ``mirrored[row]`` the row of the mirrored caption.
    """

    texts: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    mirrored: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], *, mirror: bool = True) -> "Captions":
        """The captions of pictures; with those of their mirror images only if ``mirror``."""
        known = list(dict.fromkeys(text for captions in texts for text in captions))
        swapped = [swap_sides(text) for text in known] if mirror else []
        distinct = tuple(dict.fromkeys(["", *known, *swapped]))
        row = {text: number for number, text in enumerate(distinct)}
        return cls(
            texts=distinct,
            rows=tuple(tuple(row[text] for text in captions) for captions in texts),
            mirrored=tuple(row.get(swap_sides(text), number) for number, text in enumerate(distinct)),
        )

    def draw(
        self, pictures: Sequence[int], *, mirror: Sequence[bool], dropout: float, generator: torch.Generator
    ) -> list[int]:
        """Rows (n) of one caption a picture, drawn evenly from its own; the empty one at rate ``dropout``."""
        which = torch.rand(len(pictures), generator=generator).tolist()
        dropped = (torch.rand(len(pictures), generator=generator) < dropout).tolist()
        chosen = []
        for picture, flip, part, drop in zip(pictures, mirror, which, dropped, strict=True):
            own = self.rows[picture]
            row = own[min(int(part * len(own)), len(own) - 1)]
            row = self.mirrored[row] if flip else row
            chosen.append(0 if drop else row)
        return chosen
