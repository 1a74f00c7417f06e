"""Words of the data's captions and of the winning prompts, sized by how often they occur.

They are set as plain text of different sizes rather than as a drawing: it wraps on a phone, prints, and is
read out like any other list.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 40
"""Words shown."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
# Words that say nothing about a picture. Lists for search engines also hold "top", "left" or "no", which do.
_PLAIN = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to from with and or as by for is are was were be been it its this that these "
        "those there which",
    )
)


@dataclass(frozen=True)
class CloudWord:
    """A word, the share of texts that hold it (in [0, 1]), and its size relative to the rest (in [0, 1])."""

    text: str
    share: float
    size: float
    common: bool = False


def cloud(texts: Iterable[tuple[str, float]], *, most: int = MOST) -> list[CloudWord]:
    """The most frequent words in alphabetical order; a text counts with its weight, a word once a text.

    Args:
        texts: each with a weight above 0; texts of weight 0 are passed over.
    """
    shares: dict[str, float] = defaultdict(float)
    total = 0.0
    for text, weight in texts:
        if weight <= 0:
            continue
        total += weight
        for word in {found.lower() for found in _WORD.findall(text)} - _PLAIN:
            shares[word] += weight
    top = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    if not top:
        return []
    largest = top[0][1]
    # The square root, as the eye reads areas.
    return [CloudWord(word, share / total, (share / largest) ** 0.5) for word, share in sorted(top)]


def mark_common(first: list[CloudWord], other: list[CloudWord]) -> tuple[list[CloudWord], list[CloudWord]]:
    """Both lists, words that stand in both marked."""
    both = {word.text for word in first} & {word.text for word in other}
    marked = [[CloudWord(w.text, w.share, w.size, w.text in both) for w in own] for own in (first, other)]
    return marked[0], marked[1]
