"""Every picture decoded once: which are broken, which are the same, which are nearly so."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptopt.base.files import file_digest
from promptopt.base.images import ImageFileError, read_image
from studies.appearance import appearance
from studies.preparation.grouping import connected, near_pairs, perceptual_hash


@dataclass
class Seen:
    """What decoding every picture once told, by its name."""

    good: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    looks: dict[str, dict[str, float]] = field(default_factory=dict)


def look(
    files: Sequence[tuple[str, Path]],
    *,
    hashed: bool,
    measured: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Seen:
    """Decode (name, file) pairs, and note broken ones.

    Args:
        hashed: also hash what they look like.
        measured: also measure it (`studies.appearance`).
    """
    seen = Seen()
    for index, (name, path) in enumerate(files, start=1):
        try:
            image = read_image(path)
        except ImageFileError as error:
            seen.broken[name] = error.problem
        else:
            seen.good.append(name)
            seen.digests[name] = file_digest(path)
            if hashed:
                seen.hashes[name] = perceptual_hash(image)
            if measured:
                seen.looks[name] = appearance(image)
        if on_progress is not None:
            on_progress(index, len(files))
    return seen


def same_bytes(names: Sequence[str], digests: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Sets of two or more names whose files are equal."""
    sets: dict[str, list[str]] = defaultdict(list)
    for name in names:
        sets[digests[name]].append(name)
    return tuple(tuple(same) for same in sets.values() if len(same) > 1)


def joined(
    names: Sequence[str], pairs: Sequence[tuple[int, int]], same: Sequence[tuple[str, ...]]
) -> list[int]:
    """For each name the index of the first one that it belongs to, by pairs of indices and sets of names."""
    index = {name: i for i, name in enumerate(names)}
    return connected(len(names), [*pairs, *((index[n[0]], index[other]) for n in same for other in n[1:])])


def groups_by_looks(
    names: Sequence[str],
    seen: Seen,
    same: Sequence[tuple[str, ...]],
    *,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Near-duplicates, and pictures with the same ``known`` group, share one, named after its first picture.

    With ``known`` groups a group is named as the first of its pictures says.
    """
    pairs = near_pairs(np.stack([seen.hashes[name] for name in names]))
    if known is not None:
        first: dict[str, int] = {}
        pairs += [(first.setdefault(known[name], i), i) for i, name in enumerate(names)]
    leaders = (names[i] for i in joined(names, pairs, same))
    return {n: known[lead] if known else lead for n, lead in zip(names, leaders, strict=True)}
