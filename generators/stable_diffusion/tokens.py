"""Which words of a text a model would not read to their end."""

from __future__ import annotations

import re
from collections.abc import Callable


def lost_words(text: str, *, count: Callable[[str], int], limit: int) -> str:
    """The end of `text` that does not fit into `limit` tokens, from the first word cut; "" when all fits.

    Args:
        count: tokens of a text, start and end tokens included; of a beginning of a text never more than of
            the whole.
        limit: the longest text in tokens, counted the same way.
    """
    if count(text) <= limit:
        return ""
    words = list(re.finditer(r"\S+", text))
    fits, too_long = 0, len(words)  # words of which we know that they fit, and that they do not
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count(text[: words[middle - 1].end()]) <= limit:
            fits = middle
        else:
            too_long = middle
    return text[words[fits].start() :].rstrip() if words else ""
