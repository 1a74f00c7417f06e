"""One rater's blinded comparisons: what to show next, what was said."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from generators.store import StoredImage
from promptopt.base.files import writable_folder
from promptopt.base.seeds import derived_seed
from promptopt.formatting.pictures import image_grid, png_bytes
from promptopt.review.records import (
    Choice,
    ReviewError,
    Side,
    append,
    now,
    read_choices,
    records_path,
    take_back,
)
from promptopt.run.images import RunImages, Stage, missing_sentence
from promptopt.space import Candidate, unique_labels


@dataclass(frozen=True)
class Pair:
    """Two prompts by side, and the places of the images shown of both."""

    left: str
    right: str
    images: tuple[int, ...]


class Session:
    """A rater's turn at a run. May be broken off and taken up again; what was chosen stays.

    Every round shows every pair of prompts once, in an order, with sides and with images drawn from the seed
    and the rater's name. Both sides show images of the same seeds.

    Args:
        images: of the run.
        rater: a name to tell raters apart.
        prompts: to compare; `stage` says which of their images are shown.
        seed: of the schedule.
        rounds: how often every pair is shown.
        per_set: images on each side.

    Raises:
        ReviewError: an empty name, fewer than two prompts, images that are not in the store, or a run folder
            that cannot be written.
    """

    def __init__(
        self,
        images: RunImages,
        *,
        rater: str,
        prompts: Sequence[Candidate],
        stage: Stage,
        seed: int = 0,
        rounds: int = 2,
        per_set: int = 9,
    ) -> None:
        if not rater.strip() or len(rater) > 100:
            raise ReviewError(f"--rater {rater!r}: give a name of 1 to 100 letters, to tell raters apart")
        if len(set(prompts)) < 2:
            raise ReviewError(f"{images.folder}: {len(set(prompts))} prompt; a comparison needs two")
        self.images = images
        self.rater = rater.strip()
        self.stage: Stage = stage
        self.seed = derived_seed(seed, zlib.crc32(self.rater.encode()))
        self.path = records_path(images.folder)
        writable_folder(self.path.parent, "the experts' choices", error=ReviewError)
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise ReviewError("cannot be written", file=self.path, remedy="Give yourself write permission.")
        self._stored = {
            label: images.find(candidate, stage=stage) for candidate, label in unique_labels(prompts).items()
        }
        self._check_stored(per_set)
        self.schedule = tuple(
            pair for number in range(rounds) for pair in self._round(number, list(self._stored), per_set)
        )

    @property
    def choices(self) -> list[Choice]:
        """The rater's own, as far as they stand."""
        if not self.path.exists():
            return []
        return [choice for choice in read_choices(self.path) if choice.rater == self.rater]

    def current(self) -> tuple[int, Pair] | None:
        """The next comparison with its number; None when all are done."""
        own = self.choices
        done = Counter(frozenset((choice.left, choice.right)) for choice in own)
        number = max((choice.number for choice in own), default=-1) + 1
        for pair in self.schedule:
            names = frozenset((pair.left, pair.right))
            if done[names] == 0:
                return number, pair
            done[names] -= 1
        return None

    def progress(self) -> tuple[int, int]:
        """Comparisons done, and in all."""
        done = Counter(frozenset((choice.left, choice.right)) for choice in self.choices)
        planned = Counter(frozenset((pair.left, pair.right)) for pair in self.schedule)
        return sum(min(done[names], count) for names, count in planned.items()), len(self.schedule)

    def choose(self, number: int, side: Side, *, comment: str = "") -> bool:
        """Record a choice; False where `number` is not the current one (a page that was loaded twice)."""
        found = self.current()
        if found is None or found[0] != number:
            return False
        _, pair = found
        append(
            self.path,
            Choice(
                number,
                self.rater,
                pair.left,
                pair.right,
                side,
                self.stage,
                pair.images,
                self.seed,
                now(),
                comment.strip(),
            ),
        )
        return True

    def undo(self) -> bool:
        """Take the last choice back; False where there is none."""
        own = self.choices
        if not own:
            return False
        take_back(self.path, self.rater, max(choice.number for choice in own))
        return True

    def picture(self, label: str, places: Sequence[int], *, tile: int = 180) -> bytes:
        """A PNG of some of a prompt's images; it holds pixels and nothing else."""
        shown = [stored for place in places if (stored := self._stored[label][place]) is not None]
        return png_bytes(image_grid([stored.load() for stored in shown], tile=tile))

    def _round(self, number: int, prompts: list[str], per_set: int) -> list[Pair]:
        rng = np.random.default_rng([self.seed, number])
        pairs = list(combinations(prompts, 2))
        found = []
        for index in rng.permutation(len(pairs)):
            first, second = pairs[int(index)]
            if rng.integers(2):
                first, second = second, first
            both = self._both(first, second)
            places = rng.permutation(len(both))[:per_set]
            found.append(Pair(first, second, tuple(both[int(place)] for place in places)))
        return found

    def _both(self, first: str, second: str) -> list[int]:
        """Places in the panel at which both prompts have an image."""
        stored: list[Sequence[StoredImage | None]] = [self._stored[first], self._stored[second]]
        return [
            place
            for place, images in enumerate(zip(*stored, strict=True))
            if all(image is not None for image in images)
        ]

    def _check_stored(self, per_set: int) -> None:
        if per_set < 1:
            raise ReviewError(f"--images {per_set}: show at least one")
        for first, second in combinations(self._stored, 2):
            wanted = min(per_set, len(self._stored[first]))
            if (there := len(self._both(first, second))) < wanted:
                raise ReviewError(missing_sentence(there, len(self._stored[first]), self.images))
