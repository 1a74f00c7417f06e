"""The token guard: no image of a prompt whose end the generator would not read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from generators.stable_diffusion.tokens import lost_words
from promptopt.base.reading import one_line

if TYPE_CHECKING:
    from generators.base import Generator

_SHOWN = 5


@dataclass(frozen=True)
class TooLong:
    """A prompt over the limit: its tokens by the generator's own tokenizer, and the end that would go."""

    prompt: str
    count: int
    lost: str


def too_long(prompts: Iterable[str], generator: Generator) -> list[TooLong]:
    """The prompts that the generator would cut, the longest first."""
    limit = generator.max_tokens
    counted = {prompt: generator.count_tokens(prompt) for prompt in prompts}
    found = [
        TooLong(prompt, count, lost_words(prompt, count=generator.count_tokens, limit=limit))
        for prompt, count in counted.items()
        if count > limit
    ]
    return sorted(found, key=lambda one: -one.count)


def describe(found: Iterable[TooLong]) -> str:
    """One line a prompt, for messages: tokens, what would be kept, and in brackets what would be lost."""
    lines = []
    for one in found:
        kept = one.prompt[: len(one.prompt.rstrip()) - len(one.lost)]
        lines.append(f"  {one.count} tokens: {one_line(kept)}[lost: {one_line(one.lost)}]")
    more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "\n".join(lines[:_SHOWN]) + more
