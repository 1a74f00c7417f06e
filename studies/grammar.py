"""What a user's captions say: words of their own become attributes, and attributes new captions.

A grammar is a small YAML file::

    slots:                                  # attribute: {words in a caption: its value}, or a list of words
      brightness: {dim: dim, bright: bright, moderately bright: ""}     # "": read, and nothing to say
      edge: [no black edge, broad black edge]
    measure:                                # read off the pixels where the captions do not speak of a slot
      brightness: {slot: brightness, low: dim, high: bright, share: 0.2}
    captions:                               # written anew from the attributes, beside or in place of the own
      of: {polyp: "an image of a[ {size}] polyp[, {brightness}]"}       # by label or category
      count: 12
      keep: 0.5
      own: false
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from promptopt.base.seeds import hashed_seed
from promptopt.base.settings import read_yaml, validate
from studies.appearance import MEASURES
from studies.dataset import DatasetError

Words = Annotated[str, Field(min_length=1)]
_PART = re.compile(r"\[([^\[\]]*)\]|\{(\w+)\}|([^\[\]{}]+)")
_HOLE = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\ban?(?= ([a-z]))")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measured(_Section):
    """Words for the lowest and the highest ``share`` of a data set's pictures by one measure."""

    slot: Words
    low: str = ""
    high: str = ""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.2


class WrittenCaptions(_Section):
    """``count`` captions a picture; each attribute is said in each with the probability ``keep``.

    A part in square brackets is left out where its slot says nothing; what stands outside is always said.
    ``own``: whether the picture's own captions stay.
    """

    of: dict[Words, Words] = Field(min_length=1)
    count: Annotated[int, Field(ge=1, le=1000)] = 12
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    own: bool = True

    @field_validator("of")
    @classmethod
    def _whole(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            if "".join(match[0] for match in _PART.finditer(pattern)) != pattern:
                raise ValueError(
                    f"{name!r}: {pattern!r} has a bracket that does not close, or one in another"
                )
        return patterns


class Grammar(_Section):
    """Slots with their words, what is measured, and how captions are written.

    Example:
        >>> grammar = Grammar(slots={"light": ["dim", "bright"], "size": {"small": "small"}})
        >>> grammar.read(["Generate a dim image containing a small polyp."])
        {'light': 'dim', 'size': 'small'}
    """

    slots: dict[Words, dict[Words, str]] = Field(min_length=1)
    measure: dict[str, Measured] = {}
    captions: WrittenCaptions | None = None

    @field_validator("slots", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: {w: w for w in v} if isinstance(v, list | tuple) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _known(self) -> Grammar:
        seen: dict[str, str] = {}
        for slot, words in self.slots.items():
            for phrase in words:
                if (other := seen.setdefault(phrase.lower(), slot)) != slot:
                    raise ValueError(f"slots: {phrase!r} stands in {other!r} and {slot!r}; keep one")
        for name, measured in self.measure.items():
            if name not in MEASURES:
                raise ValueError(f"measure: {name!r} does not exist; use {', '.join(MEASURES)}")
            self._check(measured.slot, f"measure: {name}")
        for label, pattern in (self.captions.of if self.captions else {}).items():
            for hole in _HOLE.findall(pattern):
                self._check(hole, f"captions: {label}")
        return self

    def _check(self, slot: str, where: str) -> None:
        if slot not in self.slots:
            raise ValueError(f"{where}: there is no slot {slot!r}; there are {', '.join(self.slots)}")

    @property
    def digest(self) -> str:
        """sha256 of what it says."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def spoken(self, caption: str) -> list[tuple[str, str]]:
        """Slots and values in the order said; the longest words count where several fit."""
        text, found = caption.lower(), []
        phrases = sorted(
            ((phrase, slot, value) for slot, words in self.slots.items() for phrase, value in words.items()),
            key=lambda one: (-len(one[0]), one[0]),
        )
        for phrase, slot, value in phrases:
            pattern = rf"(?<![\w-]){re.escape(phrase.lower())}(?![\w-])"
            for match in re.finditer(pattern, text):
                found.append((match.start(), slot, value))
            # What is read is gone, so that "moderately sharp" is not "sharp" too; places stay.
            text = re.sub(pattern, lambda m: "\0" * len(m[0]), text)
        return [(slot, value) for _, slot, value in sorted(found)]

    def read(self, captions: Iterable[str]) -> dict[str, str]:
        """Attributes of a picture: of each slot what is said first; "" where that says nothing."""
        said: dict[str, str] = {}
        for caption in captions:
            for slot, value in self.spoken(caption):
                said.setdefault(slot, value)
        return said

    def with_measured(
        self, attributes: Sequence[Mapping[str, str]], looks: Sequence[Mapping[str, float]]
    ) -> list[dict[str, str]]:
        """The attributes with those that pixels say, in slots that captions do not speak of; none empty.

        Args:
            looks: `studies.appearance.appearance` of each picture.
        """
        found = [dict(one) for one in attributes]
        for name, measured in self.measure.items():
            values = np.array([one[name] for one in looks])
            low, high = np.quantile(values, [measured.share, 1 - measured.share])
            for own, value in zip(found, values, strict=True):
                word = measured.low if value <= low else measured.high if value > high else ""
                own.setdefault(measured.slot, word)
        order = list(self.slots)
        return [{s: one[s] for s in order if one.get(s)} for one in found]

    def write(self, names: Sequence[str], attributes: Mapping[str, str], *, key: str) -> tuple[str, ...]:
        """Captions of a picture, each once; none where no pattern has one of its ``names``.

        Args:
            names: label, then category.
            key: what the choice of attributes follows from, such as the file's name.
        """
        assert self.captions is not None
        pattern = self._pattern(names)
        if pattern is None:
            return ()
        rng = np.random.default_rng(hashed_seed(key))
        texts: dict[str, None] = {}
        for _ in range(self.captions.count):
            said = {slot: word for slot, word in attributes.items() if rng.random() < self.captions.keep}
            texts[_filled(pattern, said, attributes)] = None
        return tuple(texts)

    def prompt(self, names: Sequence[str], attributes: Mapping[str, str]) -> str:
        """The caption that says all of the attributes.

        Raises:
            DatasetError: no pattern has one of the names.
        """
        pattern = self._needed(names)
        return _filled(pattern, attributes, attributes)

    def writes(self, names: Sequence[str]) -> bool:
        """Whether there is a pattern for one of the names."""
        return self._pattern(names) is not None

    def parts(self, names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """The pattern in its parts, with the slots of each; brackets are left out.

        Raises:
            DatasetError: no pattern has one of the names.
        """
        pattern = self._needed(names)
        found = []
        for match in _PART.finditer(pattern):
            part, hole, plain = match.groups()
            text = part if part is not None else f"{{{hole}}}" if hole is not None else plain
            found.append((text, tuple(_HOLE.findall(text))))
        return found

    def _needed(self, names: Sequence[str]) -> str:
        pattern = self._pattern(names)
        if pattern is None:
            raise DatasetError(f"captions: no pattern for {' or '.join(map(repr, names))}; write one")
        return pattern

    def _pattern(self, names: Sequence[str]) -> str | None:
        patterns = self.captions.of if self.captions is not None else {}
        return next((patterns[name] for name in names if name in patterns), None)


def _filled(pattern: str, said: Mapping[str, str], attributes: Mapping[str, str]) -> str:
    parts = []
    for match in _PART.finditer(pattern):
        part, hole, plain = match.groups()
        if part is not None:
            if all(said.get(name) for name in _HOLE.findall(part)):
                parts.append(_HOLE.sub(lambda m: said[m[1]], part))
        elif hole is not None:
            parts.append(attributes.get(hole, ""))
        else:
            parts.append(plain)
    text = re.sub(r" +", " ", "".join(parts)).strip(" ,")
    return _ARTICLE.sub(lambda m: "an" if m[1] in "aeiou" else "a", text)


def load_grammar(path: str | Path) -> Grammar:
    """Read a grammar. Raises DatasetError naming the file, the key, the bad value and the remedy."""
    remedy = f"A grammar has the keys {', '.join(Grammar.model_fields)}."
    grammar: Grammar = validate(
        Grammar, read_yaml(Path(path), error=DatasetError, remedy=remedy), error=DatasetError
    )
    return grammar


def counted(attributes: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """slot -> value -> pictures, the most frequent value first."""
    counts: dict[str, Counter[str]] = {}
    for one in attributes:
        for slot, value in one.items():
            counts.setdefault(slot, Counter())[value] += 1
    return {slot: dict(values.most_common()) for slot, values in sorted(counts.items())}
