"""How often each 95 % interval holds the truth, and how often repeated looks declare a winner between equals.

    python scripts/bench/coverage.py [--repeats 300] [--runs 2000] [--only frechet,mmd,...]

Features are independent normal or skewed (gamma, shape 2) numbers of unequal spread. "null" compares two
sets of one distribution, "shift" a set that is moved by 0.3 and spread 10 % wider with another. The truth is
0 or a closed form where there is one, else the mean of large sets (for the biased Fréchet distance, the mean
over the repeats themselves). With 300 repeats a true 95 % shows as 92.5 to 97.5 %.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evaluation import Estimate, compare, diversity, frechet_distance, frechet_infinity, kid, mmd
from evaluation.metrics.mmd import mmd_contributions

SIZES = (16, 64, 256)
LARGE, LARGE_REPEATS = 1000, 30


@dataclass(frozen=True)
class World:
    """A distribution of real features and one of generated features."""

    d: int
    skewed: bool
    shifted: bool

    def __str__(self) -> str:
        kind = "skewed" if self.skewed else "normal"
        return f"{kind}, d = {self.d} | {'shift' if self.shifted else 'null'}"

    @property
    def scale(self) -> np.ndarray:
        return np.linspace(1.3, 0.3, self.d)

    def real(self, rng: np.random.Generator, n: int) -> np.ndarray:
        if self.skewed:
            z = (rng.gamma(2.0, size=(n, self.d)) - 2) / np.sqrt(2)
        else:
            z = rng.normal(size=(n, self.d))
        return z * self.scale

    def generated(self, rng: np.random.Generator, n: int) -> np.ndarray:
        rows = self.real(rng, n)
        return rows * 1.1 + 0.3 if self.shifted else rows

    @property
    def frechet(self) -> float:
        """Between the populations: equal correlations, so a closed form."""
        return self.d * 0.3**2 + float(np.sum((0.1 * self.scale) ** 2)) if self.shifted else 0.0


WORLDS = tuple(
    World(d, skewed, shifted) for d in (8, 64) for skewed in (False, True) for shifted in (False, True)
)


def bootstrap(
    metric: Callable[[np.ndarray, np.ndarray], Estimate], rng: np.random.Generator, rounds: int = 60
) -> Callable[[np.ndarray, np.ndarray], Estimate]:
    """The naive percentile bootstrap, to show what it does."""

    def measure(a: np.ndarray, b: np.ndarray) -> Estimate:
        values = [
            metric(a[rng.integers(len(a), size=len(a))], b[rng.integers(len(b), size=len(b))]).value
            for _ in range(rounds)
        ]
        low, high = np.quantile(values, [0.025, 0.975])
        return Estimate(float(np.median(values)), low, high, len(a), "naive percentile bootstrap", "ok")

    return measure


def coverage(estimates: list[Estimate], truth: float | None) -> str:
    """Share of the intervals that hold the truth (None: the mean value of these very estimates)."""
    offered = [e for e in estimates if e.low is not None]
    if not offered:
        return "none"
    centre = float(np.mean([e.value for e in estimates])) if truth is None else truth
    return f"{np.mean([e.low <= centre <= e.high for e in offered]):.1%}"


def large_mean(world: World, value: Callable[[np.ndarray, np.ndarray], float]) -> float:
    rng = np.random.default_rng(12345)
    return float(
        np.mean([value(world.generated(rng, LARGE), world.real(rng, LARGE)) for _ in range(LARGE_REPEATS)])
    )


def table(
    name: str,
    measure: Callable[[World], Callable[[np.ndarray, np.ndarray], Estimate]],
    truth: Callable[[World], float | None],
    repeats: int,
    *,
    sizes: tuple[int, ...] = SIZES,
    worlds: tuple[World, ...] = WORLDS,
) -> None:
    print(f"\n## {name} ({repeats} repeats, sets of equal size)\n")
    print("| features | case |", " | ".join(f"n = {n}" for n in sizes), "|")
    print("|---" * (2 + len(sizes)) + "|")
    for world in worlds:
        metric, right = measure(world), truth(world)
        cells = []
        for n in sizes:
            rng = np.random.default_rng(n)
            found = [metric(world.generated(rng, n), world.real(rng, n)) for _ in range(repeats)]
            cells.append(coverage(found, right))
        print(f"| {world} |", " | ".join(cells), "|", flush=True)


def bandwidth(world: World) -> float:
    return float(np.sqrt(2 * np.sum(world.scale**2)))


def of_metrics(only: set[str], repeats: int) -> None:
    rng = np.random.default_rng(0)
    if "frechet" in only:
        table(
            "Fréchet distance: its mean at these sizes",
            lambda _: frechet_distance,
            lambda _: None,
            repeats,
        )
    if "infinity" in only:
        table(
            "Fréchet distance at infinity: between the populations",
            lambda _: lambda a, b: frechet_infinity(a, b, seed=0),
            lambda world: world.frechet,
            repeats,
            sizes=(64, 256),
            worlds=tuple(w for w in WORLDS if w.d == 8),
        )
    if "bootstrap" in only:
        some = tuple(w for w in WORLDS if not w.skewed and w.d == 8)
        table(
            "Naive bootstrap of the Fréchet distance (not offered): between the populations",
            lambda _: bootstrap(lambda a, b: frechet_distance(a, b, level=None), rng),
            lambda world: world.frechet,
            60,
            worlds=some,
        )
        table(
            "Naive bootstrap of RBF-MMD (not offered)",
            lambda world: bootstrap(lambda a, b: mmd(a, b, bandwidth=bandwidth(world)), rng),
            lambda world: (
                large_mean(world, lambda a, b: mmd(a, b, bandwidth=bandwidth(world)).value or 0.0)
                if world.shifted
                else 0.0
            ),
            60,
            sizes=(16, 64),
            worlds=some,
        )
    if "mmd" in only:
        table(
            "RBF-MMD",
            lambda world: lambda a, b: mmd(a, b, bandwidth=bandwidth(world)),
            lambda world: (
                large_mean(world, lambda a, b: mmd(a, b, bandwidth=bandwidth(world)).value or 0.0)
                if world.shifted
                else 0.0
            ),
            repeats,
        )
    if "kid" in only:
        table(
            "KID",
            lambda _: kid,
            lambda world: large_mean(world, lambda a, b: kid(a, b).value or 0.0) if world.shifted else 0.0,
            repeats,
        )
    if "diversity" in only:
        table(
            "Diversity of one set",
            lambda _: lambda a, _b: diversity(a),
            lambda world: large_mean(world, lambda a, _b: diversity(a).value or 0.0),
            repeats,
        )


def of_comparisons(repeats: int) -> None:
    """Per-image contributions to MMD, paired by seed: a generator against another (or itself, noisily)."""
    print(f"\n## compare, on contributions to RBF-MMD ({repeats} repeats, 200 reals)\n")
    print("| features | case | interval |", " | ".join(f"n = {n}" for n in SIZES), "|")
    print("|---" * (3 + len(SIZES)) + "|")
    for world in WORLDS:
        rng = np.random.default_rng(7)
        reals, width = world.real(rng, 200), bandwidth(world)

        def contributions(n: int, world=world, rng=rng, reals=reals, width=width) -> tuple[np.ndarray, ...]:
            seeds, noise = world.real(rng, n), 0.3
            first = seeds + noise * world.real(rng, n) + (0.3 if world.shifted else 0.0)
            second = seeds + noise * world.real(rng, n)
            return tuple(mmd_contributions(x, reals, bandwidth=width) for x in (first, second))

        truth = 0.0
        if world.shifted:
            pairs = [contributions(LARGE) for _ in range(LARGE_REPEATS)]
            truth = float(np.mean([a.mean() - b.mean() for a, b in pairs]))
        for anytime in (False, True):
            cells = [
                coverage([compare(*contributions(n), anytime=anytime) for _ in range(repeats)], truth)
                for n in SIZES
            ]
            print(f"| {world} | {'anytime' if anytime else 'plain'} |", " | ".join(cells), "|", flush=True)


DIFFERENCES: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    "normal": lambda rng, n: (rng.normal(size=n), rng.normal(size=n)),
    "log-normal values": lambda rng, n: (rng.lognormal(size=n), rng.lognormal(size=n)),
    "Student t, 3 degrees": lambda rng, n: (rng.standard_t(3, size=n), rng.standard_t(3, size=n)),
    "zeros and ones, 10 %": lambda rng, n: (rng.random(n) < 0.1, rng.random(n) < 0.1),
    "skewed differences (log-normal, centred; no A/A case)": lambda rng, n: (
        rng.lognormal(size=n) - np.exp(0.5),
        np.zeros(n),
    ),
}


def of_looks(runs: int) -> None:
    looks = np.unique(np.linspace(8, 64, 20).round().astype(int))
    print(f"\n## False verdicts between equals: {len(looks)} looks at 8 to 64 pairs, {runs} A/A runs\n")
    print(
        "| per-image values | anytime | plain t at every look | plain t, last look alone |\n|---|---|---|---|"
    )
    for name, draw in DIFFERENCES.items():
        rng = np.random.default_rng(3)
        wrong = np.zeros(3)
        for _ in range(runs):
            a, b = (np.asarray(x, dtype=float) for x in draw(rng, int(looks[-1])))
            plain = [_verdict(compare(a[:n], b[:n])) for n in looks]
            wrong += [
                any(_verdict(compare(a[:n], b[:n], anytime=True)) for n in looks),
                any(plain),
                plain[-1],
            ]
        print(f"| {name} |", " | ".join(f"{share:.1%}" for share in wrong / runs), "|", flush=True)


def _verdict(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and not estimate.low <= 0 <= estimate.high


def main() -> None:
    names = ("frechet", "infinity", "bootstrap", "mmd", "kid", "diversity", "compare", "looks")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--only", default=",".join(names), help=f"of {', '.join(names)}; default: all")
    options = parser.parse_args()
    only = set(options.only.split(","))
    if only - set(names):
        parser.error(f"--only: {', '.join(sorted(only - set(names)))}; choose from {', '.join(names)}")
    of_metrics(only, options.repeats)
    if "compare" in only:
        of_comparisons(options.repeats)
    if "looks" in only:
        of_looks(options.runs)


if __name__ == "__main__":
    main()
