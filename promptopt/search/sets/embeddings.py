"""Kernel mean embeddings of prompts, from images of one panel of seeds that grow as the search goes on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import check_features
from evaluation.metrics.mmd import gaussian_kernel

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
K = TypeVar("K", bound=Hashable)

CAUTION = 2.0
"""How many times the expected squared error of the sampled mixture is added. Once would be enough for weights
that do not depend on these images; those that were fitted to them profit from their errors once more."""

_DECIMALS = 7
"""Kernel means are rounded: features may differ in their last digits between batch sizes, and such noise must
not send the search another way."""


@dataclass(frozen=True, eq=False)
class Form:
    """The quadratic form of k prompts over m real images; symbols as in `promptopt.search.sets`.

    Attributes:
        within: K, (k, k); pairs of one seed are left out, so it is unbiased for images drawn independently.
        error: E, (k, k). Positive semidefinite with ``within`` added: the Gram matrix of the samples.
        per_real: R, (k, m).
        real: mean kernel value among the real images, each pair different (scalar).
        counts: images of each prompt, (k,).
        groups: of the real images, m; None where each is its own. Ten frames of one lesion say little more
            than one, so errors over real images are errors over groups.
    """

    within: FloatArray
    error: FloatArray
    per_real: FloatArray
    real: float
    counts: np.ndarray[Any, np.dtype[np.int64]]
    groups: tuple[Hashable, ...] | None = None

    @cached_property
    def across(self) -> FloatArray:
        """b: mean kernel value between a prompt's images and the real ones, (k,)."""
        return np.asarray(self.per_real.mean(axis=1))

    def mmd(self, weights: ArrayLike) -> float:
        """Unbiased estimate of MMD^2 for weights that were fixed before these images were seen."""
        w = np.asarray(weights, dtype=np.float64)
        return float(w @ self.within @ w - 2 * w @ self.across + self.real)

    def ridged(self, *, generated: float = CAUTION, real: float = 1.0) -> FloatArray:
        """K with allowances for the sampling error of both sides, (k, k), positive semidefinite.

        The error of the generated side is taken as if every prompt had as few images as the one with the
        fewest. With its own number of images, a prompt that once got more would keep its place for that
        alone, and sets would shrink to the few prompts that were looked at longest.

        Args:
            generated: how many times the expected squared error of the sampled mixture is added, 1 or more.
            real: how many times the squared standard error of ``w'b`` over the real images is added.
        """
        sums = self.group_sums(self.per_real)
        m, n = self.per_real.shape[1], sums.shape[1]
        spread = sums @ sums.T * (n / m) / (m * max(n - 1, 1))
        few = self.error * np.maximum(self.counts[:, None], self.counts) / self.counts.min()
        return np.asarray(self.within + generated * few + real * spread)

    def group_sums(self, values: FloatArray) -> FloatArray:
        """Values (k, m) of the real images less their means, added up within each group, (k, groups)."""
        centered = values - values.mean(axis=1, keepdims=True)
        if self.groups is None:
            return np.asarray(centered)
        number = {group: i for i, group in enumerate(dict.fromkeys(self.groups))}
        own = np.zeros((len(self.groups), len(number)))
        own[np.arange(len(self.groups)), [number[group] for group in self.groups]] = 1
        return np.asarray(centered @ own)

    def over_reals(self, rows: ArrayLike) -> Form:
        """The same prompts over a part of the real images; ``real`` stays, as no weight depends on it."""
        chosen = np.asarray(rows)
        groups = None if self.groups is None else tuple(self.groups[int(i)] for i in chosen)
        return replace(self, per_real=self.per_real[:, chosen], groups=groups)

    def only(self, places: ArrayLike) -> Form:
        """Some of the prompts, over the same real images."""
        rows = np.asarray(places)
        inside = np.ix_(rows, rows)
        return replace(
            self,
            within=self.within[inside],
            error=self.error[inside],
            per_real=self.per_real[rows],
            counts=self.counts[rows],
        )


class MeanEmbeddings(Generic[K]):
    """Images of prompts, added as they are made, and the kernel means that follow from them.

    Args:
        reference: features of the real images, shape (m, d), two rows or more.
        bandwidth: of the Gaussian kernel, above 0, in feature units.
        groups: of the real images, m; those of a group show the same scene. None: each is its own.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> embeddings = MeanEmbeddings(rng.normal(size=(50, 3)), bandwidth=2.0)
        >>> embeddings.put("near", rng.normal(size=(8, 3)))
        >>> embeddings.put("far", rng.normal(2.0, 1.0, size=(8, 3)))
        >>> form = embeddings.form()
        >>> bool(form.mmd([1, 0]) < form.mmd([0, 1]))
        True
    """

    def __init__(
        self, reference: ArrayLike, *, bandwidth: float, groups: Sequence[Hashable] | None = None
    ) -> None:
        real = check_features(reference, "reference")
        if len(real) < 2 or not bandwidth > 0:
            raise ValueError(f"{len(real)} real images and bandwidth {bandwidth!r}; 2 and above 0 are needed")
        alone = groups is None or len(set(groups)) == len(groups)
        self.groups = None if groups is None or alone else tuple(groups)
        self.bandwidth = float(bandwidth)
        self._kernel = gaussian_kernel(self.bandwidth)
        self._center = real.mean(axis=0)  # near the origin, distances lose nothing to cancellation
        self._real = real - self._center
        kernel = self._kernel(self._real, self._real)
        m = len(real)
        self._real_mean = float((kernel.sum() - np.trace(kernel)) / (m * (m - 1)))
        self._places: dict[K, int] = {}
        self._rows = np.empty((0, real.shape[1]))
        self._owner = np.empty(0, dtype=np.int64)
        self._seed = np.empty(0, dtype=np.int64)
        self._kernels = np.empty((0, 0))  # room for more images than there are
        self._to_real = np.empty((0, m))

    @property
    def keys(self) -> list[K]:
        """The prompts, in the order in which they came."""
        return list(self._places)

    def put(self, key: K, features: ArrayLike) -> None:
        """The images of a prompt, row s of seed s of the panel; a longer list continues a shorter one.

        Raises:
            ValueError: fewer rows than before, or rows of another width or not finite.
        """
        rows = check_features(features, "features") - self._center
        place = self._places.setdefault(key, len(self._places))
        had = int((self._owner == place).sum())
        if len(rows) < had:
            raise ValueError(f"{key!r}: {len(rows)} images, there were {had} before")
        new = rows[had:]
        across = self._kernel(new, self._rows)
        corner = self._kernel(new, new)
        before, count = len(self._rows), len(self._rows) + len(new)
        if count > len(self._kernels):
            larger = np.empty((2 * count, 2 * count))
            larger[:before, :before] = self._gram
            self._kernels = larger
        self._kernels[before:count, :before] = across
        self._kernels[:before, before:count] = across.T
        self._kernels[before:count, before:count] = corner
        self._to_real = np.concatenate([self._to_real, self._kernel(new, self._real)])
        self._rows = np.concatenate([self._rows, new])
        self._owner = np.concatenate([self._owner, np.full(len(new), place)])
        self._seed = np.concatenate([self._seed, np.arange(had, len(rows))])

    def form(self) -> Form:
        """The quadratic form of all prompts, in the order of `keys`. Two images of each are needed."""
        k = len(self._places)
        counts = self._counts()
        if k == 0 or counts.min() < 2:
            raise ValueError("no prompt yet, or one with fewer than two images")
        member = self._member()
        common = np.minimum(counts[:, None], counts)
        pairs = counts[:, None] * counts - common
        of_same = np.zeros((k, k))
        for rows in self._by_seed():
            of_same[np.ix_(self._owner[rows], self._owner[rows])] += self._gram[np.ix_(rows, rows)]
        within = (member @ (member @ self._gram).T - of_same) / pairs
        error = (of_same - common * within) / (counts[:, None] * counts)
        per_real = (member @ self._to_real) / counts[:, None]
        return Form(
            np.round((within + within.T) / 2, _DECIMALS),
            np.round((error + error.T) / 2, _DECIMALS),
            np.round(per_real, _DECIMALS),
            self._real_mean,
            counts,
            self.groups,
        )

    def witness(self, weights: ArrayLike) -> list[FloatArray]:
        """g of every image under the mixture, one array a prompt in the order of `keys`.

        An image is not compared with those of its own seed, which resemble it more than a mixture's would.
        With as many images of every prompt, the means are half of J's gradient exactly; with other numbers
        nearly, as the pairs then count a little differently.
        """
        w = np.asarray(weights, dtype=np.float64)
        chosen = np.flatnonzero(w > 0)
        column = np.full(len(w), -1)
        column[chosen] = np.arange(len(chosen))
        sums = (self._member()[chosen] @ self._gram).T  # (N, chosen)
        others = np.tile(self._counts()[chosen], (len(sums), 1))
        for rows in self._by_seed():
            own = rows[column[self._owner[rows]] >= 0]
            inside = np.ix_(rows, column[self._owner[own]])
            sums[inside] -= self._gram[np.ix_(rows, own)]
            others[inside] -= 1
        mixture = (sums / np.maximum(others, 1)) @ w[chosen]
        values = np.round(mixture - self._to_real.mean(axis=1), _DECIMALS)
        return [values[self._owner == place] for place in range(len(w))]

    @property
    def _gram(self) -> FloatArray:
        """Kernel values among the images, (N, N)."""
        return self._kernels[: len(self._rows), : len(self._rows)]

    def _counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.bincount(self._owner, minlength=len(self._places))

    def _by_seed(self) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
        """Rows of each seed, at most one a prompt."""
        order = np.argsort(self._seed, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self._seed[order])) + 1)

    def _member(self) -> Any:
        """1 where an image is of a prompt, sparse, (k, N)."""
        from scipy.sparse import csr_array

        count = len(self._owner)
        places = (self._owner, np.arange(count))
        return csr_array((np.ones(count), places), shape=(len(self._places), count))
