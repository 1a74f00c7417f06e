"""A cursor over one caption: it remembers the slips it met, and what it would have taken where it stopped."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from studies.medvqa_gi.attributes import CaptionError

# Between two items of a list: how it is written, and whether that is a slip.
_SEPARATORS = ((", and ", True), (", ", False), (" and ", False), ("and", True), ("/", True), (",", True))


@dataclass(frozen=True)
class Item:
    """A word of a list: its name, and how it is written, the right way first unless all are slips."""

    name: str
    spellings: tuple[str, ...]
    slip: bool = False


class Reader:
    """Reads a caption from left to right. Letters' case and runs of spaces are put right at the start."""

    def __init__(self, caption: str) -> None:
        self._caption = caption
        self._quirks: list[str] = []
        self._expected: list[str] = []
        self._at = 0
        spaced = re.sub(r"\s+", " ", caption).strip()
        if spaced != caption:
            self.quirk("stray spaces or line breaks left out")
        if not spaced.endswith("."):
            self.quirk("missing full stop added")
            spaced += "."
        for index, word in enumerate(spaced.removesuffix(".").split()):
            right = word.lower() if index else word.lower().capitalize()
            if word != right:
                self.quirk(f"{word!r} read as {right!r}")
        self._text = spaced.lower()

    def quirk(self, description: str) -> None:
        """Remember a slip."""
        if description not in self._quirks:
            self._quirks.append(description)

    def quirks(self) -> tuple[str, ...]:
        """The slips met so far."""
        return tuple(self._quirks)

    def before(self) -> str:
        """What has been read."""
        return self._text[: self._at]

    def take(self, literal: str, *, slip: bool = False) -> bool:
        """Read over a literal if it is next; if not, it is expected, unless seeing it is a slip."""
        if self._text.startswith(literal, self._at):
            self._advance(len(literal))
            return True
        if not slip:
            self._expected.append(repr(literal.strip() or "a space"))
        return False

    def need(self, literal: str) -> None:
        """Read over a literal; CaptionError if it is not next."""
        if not self.take(literal):
            raise self.error()

    def take_pattern(self, pattern: str, name: str) -> str | None:
        """Read over what a regular expression matches here, and return it."""
        match = re.compile(pattern).match(self._text, self._at)
        if match is None:
            self._expected.append(name)
            return None
        self._advance(len(match.group()))
        return match.group()

    def sees(self, items: Sequence[Item], *, slip: bool = False) -> bool:
        """Whether one of the items is next; if not, they are expected, unless seeing them is a slip."""
        if self._longest(items) is not None:
            return True
        if not slip:
            self._expected.extend(repr(item.spellings[0]) for item in items if not item.slip)
        return False

    def need_item(self, what: str, items: Sequence[Item], *, articles: bool = True) -> str:
        """Read over one of the items and return its name; CaptionError if none is next.

        ``articles``: whether a spelling that is not the item's first is a slip.
        """
        if (hit := self._longest(items)) is None:
            self._expected.append(f"{what} ({', '.join(i.spellings[0] for i in items if not i.slip)})")
            raise self.error()
        item, spelling = hit
        if item.slip or (articles and spelling != item.spellings[0]):
            right = next(i.spellings[0] for i in items if i.name == item.name and not i.slip)
            self.quirk(f"{spelling!r} read as {right!r}")
        self._advance(len(spelling))
        return item.name

    def read_list(self, what: str, items: Sequence[Item]) -> tuple[str, ...]:
        """Read "a", "a and b" or "a, b and c", and the slips of such lists; no item twice."""
        names: list[str] = []
        used: list[str] = []
        while True:
            start = self._at
            name = self.need_item(what, items)
            if name in names:
                raise self.error(f"another {what} than {name!r}, which is named twice", back=self._at - start)
            names.append(name)
            separator = next((s for s in _SEPARATORS if self._separates(s[0], items)), None)
            if separator is None:
                break
            self._advance(len(separator[0]))
            used.append(separator[0])
        for index, (separator_used, name) in enumerate(zip(used, names, strict=False)):
            right = " and " if index == len(used) - 1 else ", "
            if separator_used in ("and", "/", ","):
                follower = names[index + 1]
                self.quirk(f"'{name}{separator_used}{follower}' read as '{name}{right}{follower}'")
            elif separator_used != right:
                self.quirk("list read as 'a, b and c'")
        return tuple(names)

    def end(self) -> None:
        """CaptionError unless only the full stop is left."""
        if self._text[self._at :] != ".":
            self._expected.append("'.' (the end)")
            raise self.error()

    def error(self, expected: str | None = None, *, back: int = 0) -> CaptionError:
        """The error for the place reached, or ``back`` characters before it."""
        wanted = (expected,) if expected else tuple(dict.fromkeys(self._expected))
        unread = self._text[self._at - back :]
        return CaptionError(
            f"caption {self._caption!r}: cannot read {unread!r} after {self._text[: self._at - back]!r}; "
            f"right would be {' or '.join(wanted)}",
            caption=self._caption,
            unread=unread,
            expected=wanted,
        )

    def _advance(self, length: int) -> None:
        self._at += length
        self._expected.clear()

    def _longest(self, items: Sequence[Item], at: int | None = None) -> tuple[Item, str] | None:
        """The item whose spelling matches furthest, if a word ends there."""
        at = self._at if at is None else at
        hits = [
            (item, spelling)
            for item in items
            for spelling in item.spellings
            if self._text.startswith(spelling, at) and self._ends_word(at + len(spelling))
        ]
        return max(hits, key=lambda hit: len(hit[1]), default=None)

    def _ends_word(self, at: int) -> bool:
        """A word ends before anything but a letter, digit or hyphen, or before a glued "and"."""
        return not re.match(r"[\w-]", self._text[at : at + 1]) or self._text.startswith("and", at)

    def _separates(self, separator: str, items: Sequence[Item]) -> bool:
        at = self._at + len(separator)
        if not self._text.startswith(separator, self._at):
            return False
        # A comma or an "and" promises another item, known or not; the rest must be followed by one.
        return separator in (", ", " and ") or self._longest(items, at) is not None
