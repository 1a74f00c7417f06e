"""Which pictures belong together, and which pool each group goes to."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Of the 255 bits of a hash. Measured on 1,000 colonoscopy frames: a frame made smaller, brighter and saved
# at JPEG quality 60 differs in at most 10 bits (30 for 128-pixel patches); two different frames differ in at
# least 42. A picture without any texture has too little to hash and may escape.
NEAR_BITS = 32
_SIDE = 64
_KEPT = 16


def perceptual_hash(image: Image.Image) -> NDArray[np.bool_]:
    """(255,) bits: the signs, against their median, of the lowest 16x16 DCT coefficients of the grey picture.

    The mean (the first coefficient) is left out, so brightness does not count.
    """
    from scipy.fft import dctn

    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:_KEPT, :_KEPT].ravel()[1:]
    return np.asarray(low > np.median(low), dtype=np.bool_)


def near_pairs(
    hashes: NDArray[np.bool_], *, bits: int = NEAR_BITS, block: int = 512
) -> list[tuple[int, int]]:
    """Index pairs (i < j) of the (n, 255) hashes that differ in at most ``bits``; memory is block x n."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    width = hashes.shape[1]
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(signs), block):
        # Of two sign vectors the product is width - 2 * distance, exact in float32.
        close = signs[start : start + block] @ signs[start:].T >= width - 2 * bits
        rows, columns = np.nonzero(close)
        pairs += [(int(r) + start, int(c) + start) for r, c in zip(rows, columns, strict=True) if r < c]
    return pairs


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of ``count`` items the smallest index of its connected component (union-find)."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(item) for item in range(count)]


def assign_pools(
    groups: Mapping[str, Sequence[str]], *, pools: Sequence[tuple[str, float]], seed: int, least: int = 0
) -> dict[str, str]:
    """A pool for every group, so that in each category the pictures are shared out as asked.

    ``groups`` maps a group to the categories of its pictures; ``pools`` are names with their shares. The
    groups are shuffled within the category that most of their pictures have, and dealt, the largest first,
    each to the pool that lacks most of its categories. The order of ``groups`` does not matter. ``least``:
    pictures of a category that every pool is to have, at the cost of the first pool.
    """
    total = sum(share for _, share in pools)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(groups):
        strata[_commonest(groups[group])].append(group)
    names: list[str] = []
    for category, members in sorted(strata.items()):
        rng = np.random.default_rng([seed, *category.encode()])
        names += [members[i] for i in rng.permutation(len(members))]
    sizes = Counter(category for group in groups.values() for category in group)
    lack = {
        category: {pool: share / total * size for pool, share in pools if share > 0}
        for category, size in sizes.items()
    }
    for wanted in lack.values():
        first, *others = wanted
        for pool in others:
            wanted[first] -= max(least - wanted[pool], 0)
            wanted[pool] = max(wanted[pool], least)
    assigned: dict[str, str] = {}
    for group in sorted(names, key=lambda name: -len(groups[name])):
        own = Counter(groups[group])
        gain = {
            pool: sum(count * lack[c][pool] / sizes[c] for c, count in own.items())
            for pool, share in pools
            if share > 0
        }
        pool = max(gain, key=lambda name: gain[name])
        assigned[group] = pool
        for category, count in own.items():
            lack[category][pool] -= count
    return assigned


def _commonest(values: Sequence[Hashable]) -> str:
    counts = Counter(values)
    return str(min(counts, key=lambda value: (-counts[value], str(value))))
