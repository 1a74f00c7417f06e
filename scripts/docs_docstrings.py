"""Docstrings as the reference pages of the site need them: an extension of griffe (see mkdocs.yml).

The code names several arguments at once, heads an example with "Example:" or nothing, and a literal block
with "::".
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_BARE = re.compile(r"(?:\A|(?<=\n\n))>>> .*(?:\n.+)*")
_SEVERAL = re.compile(
    r"^(?P<indent> +)(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)+): (?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE
)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text: str) -> str:
    """The docstring in what griffe reads as Google's style."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = _BARE.sub(lambda match: "Examples:\n" + textwrap.indent(match[0], "    "), text)
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    return _SEVERAL.sub(
        lambda match: "\n".join(
            f"{match['indent']}{name}: {match['text']}" for name in match["names"].split(", ")
        ),
        text,
    )
