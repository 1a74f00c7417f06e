"""Seeds: one panel a study, search and confirmation disjoint, all from the study's seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

_LIMIT = 2**31 - 1  # every backend takes a seed below this


@dataclass(frozen=True)
class SeedPanel:
    """Image seeds; the same for every prompt, so that prompts are compared in pairs."""

    search: tuple[int, ...]
    confirmation: tuple[int, ...]
    sampler: int
    metrics: int


def seed_panel(
    seed: int, *, search_images: int, confirm_images: int, sampler: int | None = None
) -> SeedPanel:
    """Draw the panel.

    Args:
        seed: of the study.
        search_images, confirm_images: how many seeds each part gets. A longer part starts with the shorter
            one, so that a study with more images reuses those it has.
        sampler: overrides the sampler's seed.
    """
    streams = np.random.SeedSequence(seed).spawn(4)
    search = _distinct(np.random.default_rng(streams[0]), search_images, parity=0)
    confirmation = _distinct(np.random.default_rng(streams[1]), confirm_images, parity=1)
    own = int(streams[2].generate_state(1)[0])
    metrics = int(streams[3].generate_state(1)[0]) % _LIMIT
    return SeedPanel(search, confirmation, own if sampler is None else sampler, metrics)


def derived_seed(*parts: int) -> int:
    """A 32-bit seed that is a function of the given non-negative integers."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])


def hashed_seed(text: str) -> int:
    """64 bits that follow from a text and from nothing else; shift or mask them to what takes the seed.

    Example:
        >>> hex(hashed_seed("")), hashed_seed("a") == hashed_seed("b")
        ('0xe3b0c44298fc1c14', False)
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _distinct(rng: np.random.Generator, count: int, *, parity: int) -> tuple[int, ...]:
    # Search seeds are even and confirmation seeds odd: disjoint whatever the counts.
    found: dict[int, None] = {}
    while len(found) < count:
        found[2 * int(rng.integers(_LIMIT // 2)) + parity] = None
    return tuple(found)
