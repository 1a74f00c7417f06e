"""Long lines on a terminal: broken between words, with the rest indented. Elsewhere a line stays a line."""

import textwrap

from promptopt.cli._text import terminal


def wrapped(text: str, *, indent: int = 0, width: int | None = None) -> list[str]:
    """The lines of `text`, all but the first with `indent` spaces before them.

    Args:
        width: columns; None asks the terminal, and where there is none leaves the text whole.
    """
    if width is None:
        console = terminal()
        width = console.width if console.is_terminal else 0
    if width < indent + 20:
        return [text] if text else []
    return textwrap.wrap(
        text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
