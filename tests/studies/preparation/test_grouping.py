"""Near-duplicates and pools, against plain loops and by counting."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.preparation.grouping import NEAR_BITS, assign_pools, connected, near_pairs, perceptual_hash
from tests.studies.medvqa_gi.conftest import scene

POOLS = (("reference", 0.6), ("validation", 0.2), ("test", 0.2))


def test_a_hash_sees_the_scene_and_not_the_encoding() -> None:
    image = scene(3)
    same = image.resize((88, 70)).convert("RGBA")
    assert np.count_nonzero(perceptual_hash(image) != perceptual_hash(same)) <= NEAR_BITS
    distances = [
        np.count_nonzero(perceptual_hash(scene(3)) != perceptual_hash(scene(n))) for n in range(4, 24)
    ]
    assert min(distances) > 2 * NEAR_BITS
    assert perceptual_hash(image).shape == (255,)


@pytest.mark.parametrize("block", [1, 7, 512])
def test_pairs_are_those_of_a_plain_loop(block: int) -> None:
    hashes = np.random.default_rng(0).random((40, 12)) < 0.5
    expected = [
        (i, j)
        for i in range(40)
        for j in range(i + 1, 40)
        if sum(a != b for a, b in zip(hashes[i], hashes[j], strict=True)) <= 3
    ]
    assert sorted(near_pairs(hashes, bits=3, block=block)) == expected
    assert expected


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_components_are_those_of_spreading_labels(pairs: list[tuple[int, int]]) -> None:
    labels = list(range(12))
    for _ in range(12):
        for a, b in pairs:
            labels[a] = labels[b] = min(labels[a], labels[b])
    assert connected(12, pairs) == labels


@given(st.integers(0, 5), st.permutations(range(60)))
def test_pools_are_shared_out_in_every_category_whatever_the_order(seed: int, order: list[int]) -> None:
    groups = {str(i): ["polyps"] * (1 + i % 3) if i < 45 else ["normal"] for i in range(60)}
    pools = assign_pools(groups, pools=POOLS, seed=seed)
    assert pools == assign_pools({str(i): groups[str(i)] for i in order}, pools=POOLS, seed=seed)
    counts = Counter((groups[g][0], pool) for g, pool in pools.items() for _ in groups[g])
    for category, total in (("polyps", 90), ("normal", 15)):
        for pool, share in POOLS:
            assert abs(counts[category, pool] - share * total) <= 1


def test_a_pool_without_a_share_stays_empty() -> None:
    groups = {str(i): ["polyps"] for i in range(5)}
    assert set(assign_pools(groups, pools=[("a", 1.0), ("b", 0.0)], seed=0).values()) == {"a"}
