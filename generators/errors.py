"""Errors that text-to-image generation raises on purpose."""

from __future__ import annotations


class GeneratorError(ValueError):
    """A model folder, a request or a setting is wrong; the message names it and what would be right."""


class PromptTooLongError(GeneratorError):
    """A prompt has more tokens than the text encoder reads; the rest would be cut off in silence.

    `count` and `limit` both include the start and end tokens.
    """

    def __init__(self, prompt: str, *, count: int, limit: int) -> None:
        self.prompt = prompt
        self.count = count
        self.limit = limit
        super().__init__(
            f"the prompt has {count} tokens (start and end included), over the limit of {limit}; "
            f"shorten it: {prompt!r}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_too_long, (self.prompt, self.count, self.limit)


def _rebuild_too_long(prompt: str, count: int, limit: int) -> PromptTooLongError:
    return PromptTooLongError(prompt, count=count, limit=limit)


class StoreError(RuntimeError):
    """The image store cannot be read or written (full disk, permissions, later damage)."""
