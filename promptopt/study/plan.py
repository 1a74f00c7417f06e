"""What a study costs: images, time and disk for one worker and for many, from the speed of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from promptopt.config.study_file import StudyConfig
from promptopt.search.sets.engine import STARTUP
from promptopt.study.preview import most_images

_LARGE_STEP = 16
"""Prompts of a step; more are not proposed: against 2, 8 cost 0.05 ± 0.14 of regret, 16 cost 0.29 ± 0.19."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the work: steps one after the other, each of which is over before the next begins.

    Attributes:
        name: "search", "confirmation" or "augmentation".
        steps: (how often, images) of each kind of step.
    """

    name: str
    steps: tuple[tuple[int, int], ...]

    @property
    def images(self) -> int:
        """In all steps."""
        return sum(times * images for times, images in self.steps)

    def seconds(self, *, workers: int, batch: int, rate: float) -> float:
        """Time of the steps where each waits for its last batch; a short batch takes as long as a full one.

        Args:
            workers: that work side by side.
            batch: images of a forward pass, which is what a worker is handed at a time.
            rate: images per second of one worker, with full batches.

        Example:
            >>> part = Part(name="search", steps=((10, 16),))  # ten steps of two batches each
            >>> [part.seconds(workers=n, batch=8, rate=4) for n in (1, 2, 4)]
            [40.0, 20.0, 20.0]
        """
        rounds = sum(times * _ceil(_ceil(images, batch), workers) for times, images in self.steps)
        return rounds * batch / rate


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of all parts with so many workers.

    Attributes:
        workers: that work side by side.
        seconds: time of each part, in their order.
        least: seconds of all parts if no worker ever waited and no batch were short.
        waiting: what keeps more workers from helping; "" where the number of images alone does.
    """

    workers: int
    seconds: tuple[float, ...]
    least: float
    waiting: str

    @property
    def busy(self) -> float:
        """Share of the workers' time in which they make images, 0 to 1."""
        return self.least / sum(self.seconds) if sum(self.seconds) else 1.0


def parts_of(config: StudyConfig, prompts: Sequence[int], *, augmentation: int = 0) -> tuple[Part, ...]:
    """The parts of a study at their largest.

    Args:
        prompts: of each class's template.
        augmentation: images of the set that is made afterwards.
    """
    total, together = most_images(config, prompts), config.search.proposals_per_step
    if config.aim == "set":
        searched = [_set_steps(config, size) for size in prompts]
        confirmed = (total - len(prompts) * config.set.budget) // len(prompts)
        confirmation: tuple[tuple[int, int], ...] = ((len(prompts), confirmed),)
        steps = tuple(step for one in searched for step in one)
    else:
        confirmation = ((1, (config.confirm.top + 1) * config.confirm_images),)
        left = total - confirmation[0][1] - config.search.images
        steps = ((1, config.search.images), *_spread(left, together * config.search.images))
    found = [Part(name="search", steps=steps), Part(name="confirmation", steps=confirmation)]
    if augmentation:
        found.append(Part(name="augmentation", steps=((1, augmentation),)))
    return tuple(found)


def cost(config: StudyConfig, parts: Sequence[Part], *, workers: int, batch: int, rate: float) -> Cost:
    """Time of the parts with so many workers, and what limits it."""
    images = sum(part.images for part in parts)
    return Cost(
        workers=workers,
        seconds=tuple(part.seconds(workers=workers, batch=batch, rate=rate) for part in parts),
        least=images / (workers * rate),
        waiting=_waiting(config, workers=workers, batch=batch),
    )


def images_of_a_step(config: StudyConfig) -> int:
    """Images of an ordinary step of the search, made side by side."""
    first = config.set.images if config.aim == "set" else config.search.images
    return config.search.proposals_per_step * first


def _waiting(config: StudyConfig, *, workers: int, batch: int) -> str:
    images = images_of_a_step(config)
    batches = _ceil(images, batch)
    if batches >= workers:
        return ""
    first = images // config.search.proposals_per_step
    enough = _ceil(workers * batch, first)
    idle = workers - batches
    remedy = (
        f"search.proposals_per_step: {enough} keeps all busy"
        if enough <= _LARGE_STEP
        else f"search.proposals_per_step: {_LARGE_STEP} keeps {_ceil(_LARGE_STEP * first, batch)} busy; "
        "larger steps learn too little"
    )
    return (
        f"a step of the search has {images} images, {batches} {'batch' if batches == 1 else 'batches'} of "
        f"{batch}: {idle} of {workers} workers wait ({remedy})"
    )


def _set_steps(config: StudyConfig, size: int) -> tuple[tuple[int, int], ...]:
    """Of one class: the start, then so many prompts at a time until the budget is used."""
    budget, first = config.set.budget, config.set.images
    drawn = min(STARTUP, max(1, budget // first - 1), size)
    start = min(budget, (2 + drawn) * first)  # the baseline gets twice as many
    return ((1, start), *_spread(budget - start, images_of_a_step(config)))


def _spread(images: int, at_a_time: int) -> tuple[tuple[int, int], ...]:
    whole, rest = divmod(max(0, images), at_a_time)
    return tuple(step for step in ((whole, at_a_time), (min(rest, 1), rest)) if step[0])


def _ceil(a: int, b: int) -> int:
    return math.ceil(a / b)
