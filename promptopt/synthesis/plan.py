"""Which images a synthesis makes: their prompts, numbers, seeds and file names."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptopt.base.errors import PromptoptError
from promptopt.base.seeds import hashed_seed
from promptopt.space.prompt_lines import PromptLine
from promptopt.synthesis.naming import image_name

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.request import ImageRequest

_CHUNK = 512  # images that a store is asked about at a time: one behind a URL answers to many at once


class SynthesisError(PromptoptError, ValueError):
    """The images cannot be made as asked; the message says why, what is kept and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn; None takes the model's default."""

    negative_prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None


def image_seed(seed: int, prompt: int, image: int) -> int:
    """Seed of one image, 0 to 2**63 - 1: a hash of the run's seed, the prompt's and the image's number.

    It depends on nothing else, so that more prompts or more images a prompt leave the others as they are.
    """
    return hashed_seed(f"promptopt synthesize {seed} {prompt} {image}") >> 1


def shares(weights: Sequence[float], total: int) -> list[int]:
    """`total` images over the prompts by weight (Sainte-Laguë: no share shrinks when the total grows).

    Raises SynthesisError when no weight is above 0.
    """
    counts = [0] * len(weights)
    # the next image goes to the highest weight / (2 count + 1), the earlier prompt in a tie
    queue = [(-weight, index) for index, weight in enumerate(weights) if weight > 0]
    if not queue:
        raise SynthesisError(
            "every prompt has the weight 0; give one a weight above it, or leave --total out"
        )
    heapq.heapify(queue)
    for _ in range(total):
        _, index = queue[0]
        counts[index] += 1
        heapq.heapreplace(queue, (-weights[index] / (2 * counts[index] + 1), index))
    return counts


def split_too_long(
    prompts: Sequence[PromptLine], generator: Generator, *, negative_prompt: str = ""
) -> tuple[list[PromptLine], list[tuple[PromptLine, int]]]:
    """The prompts that the generator reads to their end, and the others with their number of tokens.

    Raises SynthesisError when the negative prompt of all images is over the limit.
    """
    limit = generator.max_tokens
    if (count := generator.count_tokens(negative_prompt)) > limit:
        raise SynthesisError(
            f"the negative prompt has {count} tokens, the generator reads {limit}: {negative_prompt!r}; "
            "shorten it"
        )
    counted: dict[str, int] = {}
    fitting, too_long = [], []
    for prompt in prompts:
        texts = (prompt.text, prompt.negative or "")
        most = max(counted.setdefault(text, generator.count_tokens(text)) for text in texts)
        if most > limit:
            too_long.append((prompt, most))
        else:
            fitting.append(prompt)
    return fitting, too_long


def describe_too_long(too_long: Sequence[tuple[PromptLine, int]], prompts: int, limit: int) -> str:
    """The whole list, as an error message."""
    listed = "\n".join(
        f"  line {prompt.line}: {count} tokens: {prompt.text[:100]}{'…' if len(prompt.text) > 100 else ''}"
        for prompt, count in too_long
    )
    return (
        f"{len(too_long)} of {prompts} prompts have more tokens than the generator reads ({limit}, start and "
        f"end included), so their ends would be lost:\n{listed}\n"
        "Shorten them, or leave them out (--skip-too-long)."
    )


@dataclass(frozen=True)
class Item:
    """One image: its name in the folder, its prompt, its number of the prompt's images, and the request."""

    name: str
    prompt: PromptLine
    image: int
    request: ImageRequest


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All images of a run, in order; `counts` follows from `per_prompt` or `total`, what was asked for."""

    prompts: Sequence[PromptLine]
    counts: Sequence[int]
    per_prompt: int | None
    total: int | None
    generator: Generator
    seed: int
    pattern: str
    sampling: Sampling

    def __len__(self) -> int:
        return sum(self.counts)

    def request(self, prompt: PromptLine, image: int) -> ImageRequest:
        """Of one image."""
        own = self.sampling
        return self.generator.request(
            prompt.text,
            image_seed(self.seed, prompt.number, image),
            negative_prompt=own.negative_prompt if prompt.negative is None else prompt.negative,
            steps=own.steps,
            guidance=own.guidance,
            scheduler=own.scheduler,
        )

    def chunks(self) -> Iterator[list[Item]]:
        """The images, some hundred at a time."""
        chunk: list[Item] = []
        for prompt, count in zip(self.prompts, self.counts, strict=True):
            for image in range(1, count + 1):
                name = image_name(self.pattern, prompt=prompt.number, image=image)
                chunk.append(Item(name, prompt, image, self.request(prompt, image)))
                if len(chunk) == _CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def settings(self) -> dict[str, Any]:
        """What a folder is kept to, as JSON values."""
        sample = json.loads(self.request(self.prompts[0], 1).to_json())
        drawn = {key: value for key, value in sample.items() if key not in ("prompt", "seed")}
        return {
            "seed": self.seed,
            "pattern": self.pattern,
            "request": {**drawn, "negative_prompt": self.sampling.negative_prompt},
            "per_prompt": self.per_prompt,
            "total": self.total,
            "prompts": len(self.prompts),
            "prompts_digest": self.prompts_digest(len(self.prompts)),
        }

    def prompts_digest(self, count: int) -> str:
        """Of the first `count` prompts; their weights count where images are shared out by them."""
        lines = [
            [p.number, p.text, p.negative, None if self.total is None else p.weight]
            for p in self.prompts[:count]
        ]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()
