"""Emphasis as AUTOMATIC1111's web UI writes it, which is plain text here."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WEIGHTED = re.compile(r"(?<!\\)\([^()\[\]]+:\s*\d*\.?\d+\s*\)")
_BRACKETS = re.compile(r"(?<!\\)(?:\(\([^()\[\]]+\)\)|\[[^\[\]]+\])")


def emphasized(prompts: Iterable[str]) -> str | None:
    """The first emphasis in the prompts: ``(word:1.2)``, ``((word))`` or ``[word]``; None without any.

    Example:
        >>> emphasized(["a polyp", "a (red:1.2) polyp"]), emphasized(["a polyp (sessile)"])
        ('(red:1.2)', None)
    """
    for prompt in prompts:
        if match := _WEIGHTED.search(prompt) or _BRACKETS.search(prompt):
            return match.group()
    return None


def emphasis_warning(prompts: Iterable[str]) -> str | None:
    """What to say of it, or None."""
    found = emphasized(prompts)
    if found is None:
        return None
    return (
        f"{found!r} looks like the emphasis of AUTOMATIC1111's web UI. It is passed to the text encoder as "
        "plain text, brackets and numbers too, and weighs nothing. Write the words alone."
    )
