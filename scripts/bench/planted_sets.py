"""The search for a set where everything is known: planted worlds whose every prompt can be drawn at will.

    python scripts/bench/planted_sets.py [--worlds 100] [--images 150]

Prints how often the certificate's bound holds (the true remaining gain, from 200 fresh images of every prompt
of the template), and the distance to held-out real images that the search reaches, beside random prompts of
the template with as many images and with twice and four times as many, fitted in the same way.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from evaluation.estimate import Estimate
from promptopt.search.sets.embeddings import MeanEmbeddings
from promptopt.search.sets.weights import Problem
from tests.promptopt.search.sets.worlds import World

SMALL = (3, 3, 3)
LARGE = (4, 5, 6, 4)


def bound_holds(seed: int, images: int) -> tuple[bool, float, float]:
    """Whether the true gap is within the bound; the gap and the bound."""
    world = World(seed, sizes=SMALL, dim=6)
    search, state = world.search(images=images, seed=seed)
    certificate = search.certificate(state)
    assert certificate is not None
    codes = list(itertools.product(*map(range, world.sizes)))
    fresh = MeanEmbeddings[tuple[int, ...]](world.real, bandwidth=world.bandwidth)
    for code in codes:
        fresh.put(code, world.fresh(np.array([code] * 200)))
    form = fresh.form()
    weights = world.by_code(state, state.weights)
    w = np.array([weights.get(code, 0.0) for code in codes])
    best = Problem(form.within + form.error, form.across, np.zeros(len(codes))).solve()
    gap = form.mmd(w) - form.mmd(best)
    return gap <= certificate.bound, gap, certificate.bound


def by_random(world: World, images: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    embeddings = MeanEmbeddings[tuple[int, ...]](world.real, bandwidth=world.bandwidth)
    codes: dict[tuple[int, ...], None] = {}
    while len(codes) < images // 4:
        codes.setdefault(world.code(world.space.sample(rng)))
    for code in codes:
        embeddings.put(code, world.measure(code, 4))
    w = Problem.of(embeddings.form()).without_crumbs()
    return world.distance({code: float(x) for code, x in zip(codes, w, strict=True) if x > 0})


def by_search(world: World, images: int, seed: int) -> float:
    _, state = world.search(images=images, seed=seed)
    return world.distance(world.by_code(state, state.weights))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--images", type=int, default=150, help="of the search")
    options = parser.parse_args()
    held, gaps, bounds = zip(
        *(bound_holds(seed, options.images) for seed in range(options.worlds)), strict=True
    )
    share = Estimate.of_proportion(sum(held), len(held))
    print(
        f"certificate, {len(held)} worlds of 27 prompts, {options.images} images: the true remaining gain is "
        f"within the bound in {100 * (share.value or 0):.1f} % ({100 * (share.low or 0):.1f} to "
        f"{100 * (share.high or 0):.1f}); gap {np.mean(gaps):.4f}, bound {np.mean(bounds):.4f} on average"
    )
    rows: dict[str, list[float]] = {}
    for seed in range(options.worlds // 2):
        for name, factor in (("search", 1), ("random", 1), ("random, 2x", 2), ("random, 4x", 4)):
            world = World(1000 + seed, sizes=LARGE)
            reach = by_search if name == "search" else by_random
            rows.setdefault(name, []).append(reach(world, factor * options.images, seed))
    print(f"MMD^2 x 1000 to held-out real images, {options.worlds // 2} worlds of {np.prod(LARGE)} prompts:")
    for name, values in rows.items():
        gap = Estimate.of_mean(np.array(rows["search"]) - np.array(values))
        beside = (
            ""
            if name == "search"
            else (
                f"   search minus it {1000 * (gap.value or 0):+.1f} ({1000 * (gap.low or 0):+.1f} to "
                f"{1000 * (gap.high or 0):+.1f})"
            )
        )
        print(f"  {name:11} {1000 * np.mean(values):6.1f}{beside}")


if __name__ == "__main__":
    main()
