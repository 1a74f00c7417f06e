"""One candidate of a search: a prompt and, where the space has them, what it is drawn with."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Value = float | int | str


@dataclass(frozen=True)
class Candidate:
    """A prompt with its negative prompt and generation parameters.

    Attributes:
        prompt: any text.
        negative_prompt: None where the space does not vary it; the study's own is meant then.
        generation_parameters: those that the space varies, such as guidance and steps; empty where it varies
            none.

    Example:
        >>> one = Candidate("a polyp", "blurred", {"guidance": 2.0})
        >>> str(one)
        'a polyp [negative: blurred] [guidance 2]'
        >>> Candidate.from_json(one.to_json()) == one
        True
        >>> Candidate("A polyp.").normalized_key == Candidate("a  polyp").normalized_key
        True
    """

    prompt: str
    negative_prompt: str | None = None
    generation_parameters: Mapping[str, Value] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.prompt, self.negative_prompt, frozenset(self.generation_parameters.items())))

    def __str__(self) -> str:
        return self.label

    @cached_property
    def key(self) -> str:
        """sha256 of the content, 64 hexadecimal digits: equal candidates have equal ones, always."""
        return hashlib.sha256(_canonical(self.prompt, self.negative_prompt, self).encode()).hexdigest()

    @cached_property
    def normalized_key(self) -> str:
        """Equal for candidates that differ only in the case, punctuation and spaces of their words."""
        negative = None if self.negative_prompt is None else _normalized(self.negative_prompt)
        return _canonical(_normalized(self.prompt), negative, self)

    @property
    def label(self) -> str:
        """For people alone, and never read back: the prompt, and in brackets what it is drawn with."""
        parts = [self.prompt]
        if self.negative_prompt:
            parts.append(f"[negative: {self.negative_prompt}]")
        if self.generation_parameters:
            shown = (f"{name} {_number(value)}" for name, value in self.generation_parameters.items())
            parts.append(f"[{', '.join(shown)}]")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what the space does not vary is left out."""
        content: dict[str, Any] = {"prompt": self.prompt}
        if self.negative_prompt is not None:
            content["negative_prompt"] = self.negative_prompt
        if self.generation_parameters:
            content["generation_parameters"] = dict(self.generation_parameters)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_json`. Raises TypeError for unknown keys, or no prompt."""
        return cls(**content)


def unique_labels(candidates: Iterable[Candidate]) -> dict[Candidate, str]:
    """The label of each; those that would read the same have some digits of their keys behind it."""
    distinct = list(dict.fromkeys(candidates))
    counts = Counter(one.label for one in distinct)
    return {one: one.label if counts[one.label] == 1 else f"{one.label} #{one.key[:12]}" for one in distinct}


def _canonical(prompt: str, negative: str | None, candidate: Candidate) -> str:
    # 2 and 2.0 are equal in Python, so they must be in the text.
    parameters = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in candidate.generation_parameters.items()
    }
    return json.dumps([prompt, negative, parameters], sort_keys=True)


def _number(value: Value) -> str:
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if isinstance(value, str) or float(short) == value else repr(value)


class _Blanks(dict[int, str]):
    """For `str.translate`: punctuation of every script becomes a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if unicodedata.category(character).startswith("P") else character
        return self[code]


_BLANKS = _Blanks()


def _normalized(text: str) -> str:
    return " ".join(text.casefold().translate(_BLANKS).split())
