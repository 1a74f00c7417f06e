"""Copies in a stream of images, chunk by chunk, in the space of thumbnails.

Calibration is that of `evaluation.metrics.memorization` and `duplicates`, done once; memory is that of the
real images, whatever the number of images looked at.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.duplicates import duplicates
from evaluation.metrics.memorization import memorization, pair_distances
from promptopt.base.errors import ArgumentError

Features = NDArray[np.float32]

_ROWS = 8192  # of kept features looked at together
_AXES = 48
_SLACK = 1e-5  # of a bound, for the rounding of sums in single precision
_EQUAL = 1e-6  # cosine distance of images with the same thumbnail, rounding included
_DIGITS = 4
_CHANCE = 0.05  # of taking an image for a copy, at most, where few held-out images allow no smaller one


class TrainingCopies:
    """Flags what `memorization` flags, for one chunk of images after another.

    Args:
        training, held_out: thumbnails under several views, shape (views, n, d).
        groups: of the held-out images.
        quantile: chance to flag an image that copies nothing. With m held-out images it is 1 / (m + 1) at
            least, as a copy could not be flagged at all by a smaller one.

    Raises:
        ValueError: too few real images to calibrate on: none to be near to, or fewer than 19 held out.
    """

    def __init__(
        self, training: Features, held_out: Features, *, groups: Sequence[Hashable], quantile: float = 0.01
    ) -> None:
        chance = max(quantile, 1 / (held_out.shape[1] + 1))
        if chance > max(quantile, _CHANCE):
            raise ArgumentError(
                f"{held_out.shape[1]} held-out real images, {round(1 / _CHANCE) - 1} are the least that "
                "copies can be told by"
            )
        found = memorization(held_out[0][:0], training, held_out, groups=groups, quantile=chance)
        assert found.threshold is not None  # there are enough held-out images for this chance
        self.threshold = found.threshold
        self._training, self._held_out = _unit(training), _unit(held_out)

    def ratios(self, features: Features) -> NDArray[np.float64]:
        """Distance to the nearest training image over that to the nearest held-out one, shape (n,)."""
        made = _unit(features)
        near, far = (_nearest(made, views) for views in (self._training, self._held_out))
        least = float(np.finfo(np.float32).eps)
        return np.asarray(np.maximum(near, least) / np.maximum(far, least), dtype=np.float64)


def radius_of(real: Features, groups: Sequence[Hashable], *, images: int, quantile: float = 0.01) -> float:
    """How near two of `images` images must be to count as one: as near as real ones of one class hardly are.

    A pair may come as near by chance as a share ``quantile / (images - 1)`` of the real pairs of different
    groups does (`duplicates`); where these are too few for so small a share, as near as the nearest of them.
    0 below two groups: then equal thumbnails alone count.
    """
    numbers = np.unique([str(group) for group in groups], return_inverse=True)[1]
    sizes = np.bincount(numbers) if len(numbers) else np.zeros(0)
    pairs = int((len(numbers) ** 2 - (sizes**2).sum()) // 2)
    if pairs < 1:
        return 0.0
    share = max(quantile / max(images - 1, 1), 1.0 / (pairs + 1))
    if share >= 1:
        return 0.0
    # of two images, so that the quantile is the share itself
    found = duplicates(real[:2], real, groups=groups, quantile=share)
    return 0.0 if found.radius is None else float(found.radius)


class OwnCopies:
    """Near-duplicates among the images kept of one class; their features lie in a file, not in memory.

    The nearest image is found exactly, and most of the time without a look at all features: a cosine is at
    most that of the parts in some `_AXES` directions plus the product of the lengths of what is left. Only
    those whose bound reaches the nearest found so far are compared in full. Memory: 4 bytes a direction and
    image, 200 MB a million.

    Args:
        path: the file, float16, made when absent.
        dim: features of an image.
        radius: cosine distance below which an image repeats another one.

    Attributes:
        checksum: of what was written since `resume`, and of what that took over.
    """

    def __init__(self, path: Path, *, dim: int, radius: float) -> None:
        self._path, self._dim = path, dim
        self.radius = max(radius, _EQUAL)
        path.touch()
        self.checksum = 0
        self._axes: Features | None = None  # (dim, _AXES), of length 1 and at right angles
        self._bounds: list[Features] = []  # parts of the kept images in them and length of the rest, by block
        self._waiting: list[Features] = []  # kept since the last whole block

    def resume(self, kept: int, checksum: int, images: Callable[[], Iterable[Features]]) -> None:
        """Go on with the first `kept` images.

        Args:
            checksum: of the file when it held these.
            images: their features anew, part by part, for a file that is not as it was written.
        """
        content = self._path.read_bytes()[: kept * self._dim * 2]
        if len(content) != kept * self._dim * 2 or zlib.crc32(content) != checksum:
            content = b"".join(_half(features) for features in images())
        self._path.write_bytes(content)
        self.checksum = zlib.crc32(content)
        self._axes, self._bounds, self._waiting = None, [], []
        rows = np.frombuffer(content, dtype=np.float16).reshape(-1, self._dim)
        for start in range(0, len(rows), _ROWS):
            self._index(_unit(rows[start : start + _ROWS]))

    def distances(self, features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Cosine distances to the nearest kept image, shape (n,), and among the images, shape (n, n)."""
        made = self._rounded(features)
        nearest = np.full(len(made), np.inf)
        for kept in self._waiting:
            nearest = np.minimum(nearest, _gaps(made, kept).min(axis=1))
        if self._bounds:
            nearest = self._nearest_indexed(made, nearest)
        return nearest, np.asarray(_gaps(made, made), dtype=np.float64)

    def _nearest_indexed(self, made: Features, nearest: NDArray[np.float64]) -> NDArray[np.float64]:
        own = self._parts(made)
        kept = np.memmap(self._path, dtype=np.float16, mode="r").reshape(-1, self._dim)
        for place, block in enumerate(self._bounds):
            rows = kept[place * _ROWS : place * _ROWS + len(block)]
            reach = own @ block.T
            # The likeliest first: it says what the others have to reach.
            likeliest = _unit(rows[reach.argmax(axis=1)])
            nearest = np.minimum(nearest, 1.0 - np.einsum("ij,ij->i", made, likeliest))
            candidates = np.flatnonzero(
                (reach >= (1.0 - nearest - _SLACK)[:, None].astype(np.float32)).any(axis=0)
            )
            if len(candidates):
                nearest = np.minimum(nearest, _gaps(made, _unit(rows[candidates])).min(axis=1))
        return np.maximum(nearest, 0.0)

    def keep(self, features: Features) -> None:
        """Add images to those that later ones are compared with."""
        with self._path.open("ab") as stream:
            stream.write(content := _half(features))
        self.checksum = zlib.crc32(content, self.checksum)
        self._index(self._rounded(features))

    def _index(self, features: Features) -> None:
        if len(features):
            self._waiting.append(features)
        while sum(map(len, self._waiting)) >= _ROWS:
            rows = np.concatenate(self._waiting)
            block, rest = rows[:_ROWS], rows[_ROWS:]
            if self._axes is None:  # where the first images differ most, and what they have in common
                self._axes = np.linalg.eigh(block.T @ block)[1][:, -_AXES:].astype(np.float32)
            self._bounds.append(self._parts(block))
            self._waiting = [rest] if len(rest) else []

    def _parts(self, rows: Features) -> Features:
        assert self._axes is not None  # for the type checker
        along = rows @ self._axes
        left = np.sqrt(np.maximum(1.0 - np.einsum("ij,ij->i", along, along), 0.0))
        return np.concatenate([along, left[:, None]], axis=1)

    def _rounded(self, features: Features) -> Features:
        return _unit(_unit(features).astype(np.float16))


def rounded(value: float) -> float:
    """A score as it is written."""
    return round(float(value), _DIGITS)


def _half(features: Features) -> bytes:
    return _unit(features).astype(np.float16).tobytes()


def _unit(features: NDArray[np.floating]) -> Features:
    x = np.asarray(features, dtype=np.float32)
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def _nearest(made: Features, views: Features) -> NDArray[np.float64]:
    best = np.full(len(made), np.inf)
    for view in views:
        for start in range(0, len(view), _ROWS):
            best = np.minimum(best, _gaps(made, view[start : start + _ROWS]).min(axis=1))
    return best


def _gaps(a: Features, b: Features) -> Features:
    found: Features = pair_distances(a, b, "cosine")  # type: ignore[arg-type, assignment]
    return found
