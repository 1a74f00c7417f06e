"""Errors that text-to-image generation raises on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from promptopt.base.errors import PromptoptError


class GeneratorError(PromptoptError, ValueError):
    """A model folder, a request or a setting is wrong; the message names it and what would be right."""


class PromptTooLongError(GeneratorError):
    """A prompt has more tokens than the text encoder reads; the rest would be cut off in silence.

    `count` and `limit` both include the start and end tokens. `lost` is the end of the prompt that would not
    be read, where it is known (`generators.stable_diffusion.tokens.lost_words`).
    """

    def __init__(self, prompt: str, *, count: int, limit: int, lost: str = "") -> None:
        self.prompt = prompt
        self.count = count
        self.limit = limit
        self.lost = lost
        end = f" and would lose {lost!r}" if lost else ""
        super().__init__(
            f"the prompt has {count} tokens (start and end included), over the limit of {limit}{end}; "
            f"shorten it: {prompt!r}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_too_long, (self.prompt, self.count, self.limit, self.lost)


def _rebuild_too_long(prompt: str, count: int, limit: int, lost: str) -> PromptTooLongError:
    return PromptTooLongError(prompt, count=count, limit=limit, lost=lost)


class BatchHalvedError(GeneratorError):
    """Memory ran out, and the generator makes fewer images a pass from now on.

    Rounding depends on the batch size, so requests that state the old one cannot be met any more: make them
    anew with the generator's `request()`, as `generators.fetch` does by itself.
    """

    def __init__(self, before: int, now: int) -> None:
        self.before = before
        self.now = now
        super().__init__(
            f"out of memory at {before} images a pass; from now on there are {now}: "
            "make the requests anew with the generator's request(), or use generators.fetch"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return BatchHalvedError, (self.before, self.now)


class LostWorkersError(PromptoptError, RuntimeError):
    """Images were not made, as the workers that were to make them ended.

    `requests` are those that ended their worker each time; empty where the fault lies with the workers.
    """

    def __init__(self, problem: str, *, requests: Sequence[object] = ()) -> None:
        self.requests = tuple(requests)
        super().__init__(problem)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_lost, (self.problem, self.requests)


def _rebuild_lost(problem: str, requests: Sequence[object]) -> LostWorkersError:
    return LostWorkersError(problem, requests=requests)


class StoreError(PromptoptError, RuntimeError):
    """The image store cannot be read or written (full disk, permissions, later damage)."""
