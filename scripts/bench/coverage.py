"""How often each 95 % interval holds the truth, and how often repeated looks declare a winner between equals.

    python scripts/bench/coverage.py [--repeats 1000] [--runs 2000] [--only frechet,mmd,...]

A cell is the share of intervals that hold the truth, with Wilson's interval for that share; * marks sizes at
which the estimates are `unreliable`. The verdict names the sizes at which the share lies, beyond chance,
outside 93 to 97 %: "narrow" below, "wide" above. With 1,000 repeats a true 95 % shows as 93.6 to 96.4 %.

Features are independent normal or skewed (gamma, shape 2) numbers of unequal spread. "null" compares two
sets of one distribution; a shift of s moves one by s and spreads it s / 3 wider. The truth is 0, a closed
form or the mean of large samples; for biased values it is their mean over the repeats themselves.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import stdtrit

from evaluation import (
    ClassWeights,
    Estimate,
    alignment,
    auroc,
    compare,
    diversity,
    frechet_distance,
    frechet_infinity,
    inception_score,
    kid,
    mmd,
)
from evaluation.classifier.probe import accuracy, balanced_accuracy
from evaluation.inference.bootstrap import GroupBootstrap
from evaluation.inference.intervals import interval_estimate
from evaluation.inference.paired import _half_width
from evaluation.metrics.mmd import mmd_contributions

SIZES = (16, 64, 256)
LARGE, LARGE_REPEATS = 1000, 30

Rng = np.random.Generator


@dataclass(frozen=True)
class World:
    """A distribution of real features and one of generated features."""

    d: int
    skewed: bool
    shift: float

    def __str__(self) -> str:
        case = f"shift {self.shift:g}" if self.shift else "null"
        return f"{'skewed' if self.skewed else 'normal'}, d = {self.d}, {case}"

    @property
    def scale(self) -> np.ndarray:
        return np.linspace(1.3, 0.3, self.d)

    def real(self, rng: Rng, n: int) -> np.ndarray:
        shape = (n, self.d)
        z = (rng.gamma(2.0, size=shape) - 2) / np.sqrt(2) if self.skewed else rng.normal(size=shape)
        return z * self.scale

    def generated(self, rng: Rng, n: int) -> np.ndarray:
        return self.real(rng, n) * (1 + self.shift / 3) + self.shift

    @property
    def frechet(self) -> float:
        """Between the populations: independent features, so a closed form."""
        return self.d * self.shift**2 + float(np.sum((self.shift / 3 * self.scale) ** 2))

    @property
    def bandwidth(self) -> float:
        return float(np.sqrt(2 * np.sum(self.scale**2)))


WORLDS = tuple(World(d, skewed, s) for d in (8, 64) for skewed in (False, True) for s in (0.0, 0.1, 0.3))


@dataclass(frozen=True)
class Case:
    """What is estimated from a draw of n, and its true value (None: the mean of the estimates)."""

    name: str
    draw: Callable[[Rng, int], Estimate]
    truth: float | None
    sizes: tuple[int, ...] = SIZES


def show(title: str, cases: Iterator[Case], repeats: int) -> None:
    print(f"\n## {title} ({repeats} repeats)\n\n| case | sizes: coverage in % | verdict |\n|---|---|---|")
    for case in cases:
        cells, verdicts = [], []
        for n in case.sizes:
            rng = np.random.default_rng(n)
            found = [case.draw(rng, n) for _ in range(repeats)]
            offered = [e for e in found if e.low is not None and e.high is not None]
            if len(offered) < 0.5 * repeats:
                cells.append(f"{n}: none")
                continue
            values = [e.value for e in found if e.value is not None]
            truth = float(np.mean(values)) if case.truth is None else case.truth
            # sums of equal numbers differ by rounding
            slack = 1e-9 * max(abs(truth), float(np.std(values)))
            hits = sum(e.low - slack <= truth <= e.high + slack for e in offered)  # type: ignore[operator]
            share = Estimate.of_proportion(hits, len(offered))
            low, high = share.low or 0.0, share.high or 0.0
            mark = "*" if sum(e.status == "unreliable" for e in found) > repeats / 2 else ""
            cells.append(f"{n}{mark}: {hits / len(offered):.1%} ({100 * low:.1f}-{100 * high:.1f})")
            if high < 0.93 or low > 0.97:
                verdicts.append(f"{'narrow' if high < 0.93 else 'wide'} at {n}{mark}")
        print(f"| {case.name} |", "; ".join(cells), "|", ", ".join(verdicts) or "93 to 97", "|", flush=True)


Metric = Callable[[np.ndarray, np.ndarray], Estimate]


@cache
def large_mean(world: World, name: str) -> float:
    if not world.shift:
        return 0.0
    rng = np.random.default_rng(12345)
    metric = two_sample(world)[name]
    draws = (metric(world.generated(rng, LARGE), world.real(rng, LARGE)) for _ in range(LARGE_REPEATS))
    return float(np.mean([e.value for e in draws if e.value is not None]))


def two_sample(world: World) -> dict[str, Metric]:
    return {"mmd": lambda a, b: mmd(a, b, bandwidth=world.bandwidth), "kid": kid}


def on_worlds(metric: Callable[[World], Metric], truth: Callable[[World], float | None]) -> Iterator[Case]:
    for world in WORLDS:
        measure = metric(world)
        for reals in (None, 512):
            if reals and world.d != 64:
                continue
            yield Case(
                f"{world}, {'as many' if reals is None else reals} reals",
                lambda rng, n, w=world, f=measure, m=reals: f(w.generated(rng, n), w.real(rng, m or n)),
                truth(world),
                SIZES if reals is None else (16, 64),
            )


def of_infinity() -> Iterator[Case]:
    for world in WORLDS:
        if world.d == 8:
            yield Case(
                str(world),
                lambda rng, n, w=world: frechet_infinity(w.generated(rng, n), w.real(rng, n), seed=0),
                world.frechet,
                (64, 256),
            )


def of_bootstrap(rounds: int = 60) -> Iterator[Case]:
    def measure(rng: Rng, n: int, world: World) -> Estimate:
        a, b = world.generated(rng, n), world.real(rng, n)
        metric = two_sample(world)["mmd"]
        picks = rng.integers(n, size=(rounds, 2, n))
        values = [e.value for e in (metric(a[i], b[j]) for i, j in picks) if e.value is not None]
        low, high = np.quantile(values, [0.025, 0.975])
        return Estimate(float(np.median(values)), low, high, n, "naive percentile bootstrap", "ok")

    for world in WORLDS[:3]:
        yield Case(str(world), lambda rng, n, w=world: measure(rng, n, w), large_mean(world, "mmd"), (16, 64))


def of_diversity() -> Iterator[Case]:
    for d in (8, 64):
        for offset in (0.0, 0.3, 1.0):

            def draw(rng: Rng, n: int, d: int = d, offset: float = offset) -> np.ndarray:
                return World(d, True, 0.0).real(rng, n) + offset

            units = draw(np.random.default_rng(1), 400_000)
            units /= np.linalg.norm(units, axis=1, keepdims=True)
            mean = units.mean(axis=0)
            truth = 1 - (len(units) * float(mean @ mean) - 1) / (len(units) - 1)
            yield Case(
                f"skewed, d = {d}, mean {offset:g}", lambda rng, n, f=draw: diversity(f(rng, n)), truth
            )


def of_alignment() -> Iterator[Case]:
    matrix = np.random.default_rng(0).normal(size=(5, 64))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    weights = ClassWeights(tuple("abcde"), matrix, 50.0)
    for pull in (0.0, 1.0, 4.0):

        def draw(rng: Rng, n: int, pull: float = pull) -> np.ndarray:
            return World(64, True, 0.0).real(rng, n) + pull * matrix[0]

        large = alignment(draw(np.random.default_rng(1), 400_000), weights, target="a")
        for name in ("margin", "cosine", "clip_score"):
            yield Case(
                f"{name}, pulled by {pull:g}",
                lambda rng, n, f=draw, name=name: getattr(alignment(f(rng, n), weights, target="a"), name),
                getattr(large, name).value,
            )


def of_inception() -> Iterator[Case]:
    for classes, spread in ((2, 1.0), (2, 4.0), (10, 2.0)):

        def draw(rng: Rng, n: int, classes: int = classes, spread: float = spread) -> Estimate:
            odds = np.exp(spread * rng.normal(size=(n, classes)))
            return inception_score(odds / odds.sum(axis=1, keepdims=True), seed=0)

        yield Case(f"{classes} classes, logits' SD {spread:g}, 10 splits", draw, None, (*SIZES, 1024))


def of_classifiers() -> Iterator[Case]:
    def areas(rng: Rng, n: int, shift: float) -> Estimate:
        return auroc(rng.normal(size=2 * n) + shift * (np.arange(2 * n) < n), np.arange(2 * n) < n)

    for distance in (0.0, 0.75, 2.3):
        truth = 0.5 * (1 + math.erf(distance / 2))
        yield Case(f"AUROC {truth:.2f}, n of each class", lambda rng, n, s=distance: areas(rng, n, s), truth)
    for chance in (0.5, 0.9):

        def right(rng: Rng, n: int, chance: float = chance) -> np.ndarray:
            return rng.random(n) < chance

        def grouped(rng: Rng, n: int, chance: float = chance) -> Estimate:
            hit = np.repeat(rng.random(n) < chance, 3) ^ (
                rng.random(3 * n) < 0.1
            )  # frames of one examination
            groups = [str(i) for i in np.repeat(np.arange(n), 3)]
            draws = GroupBootstrap.draw(groups, ["x"] * len(groups), resamples=400, rng=rng)
            shares = draws.weights @ hit / draws.weights.sum(axis=1)
            return interval_estimate(
                float(hit.mean()),
                float(shares.var(ddof=1)),
                groups=n,
                n=len(hit),
                freedom=draws.freedom,
                method="x",
                level=0.95,
            )

        yield Case(
            f"accuracy {chance:g}",
            lambda rng, n, f=right: accuracy(f(rng, n), np.ones(n, dtype=bool)),
            chance,
        )
        yield Case(
            f"balanced accuracy {chance:g}, n of each class",
            lambda rng, n, f=right: balanced_accuracy(
                f(rng, 2 * n) ^ (np.arange(2 * n) < n), np.arange(2 * n) >= n
            ),
            chance,
        )
        yield Case(
            f"group bootstrap, accuracy {0.1 + 0.8 * chance:g}, n groups of 3", grouped, 0.1 + 0.8 * chance
        )


DIFFERENCES: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.random(n) - 0.5,
    "Student t, 3 degrees": lambda rng, n: rng.standard_t(3, size=n),
    "between log-normal values": lambda rng, n: rng.lognormal(size=n) - rng.lognormal(size=n),
    "between shares of 10 %": lambda rng, n: (rng.random(n) < 0.1) * 1.0 - (rng.random(n) < 0.1),
    "exponential": lambda rng, n: rng.exponential(size=n) - 1,
    "gamma, shape 1/2": lambda rng, n: rng.gamma(0.5, size=n) - 0.5,
    "log-normal": lambda rng, n: rng.lognormal(size=n) - np.exp(0.5),
    "Pareto, 3": lambda rng, n: rng.pareto(3, size=n) - 0.5,
    "normal, 10 % moved by 5 SD": lambda rng, n: rng.normal(size=n) + 5 * ((rng.random(n) < 0.1) - 0.1),
    "normal, 2 % moved by 20 SD": lambda rng, n: rng.normal(size=n) + 20 * ((rng.random(n) < 0.02) - 0.02),
}


def of_comparisons() -> Iterator[Case]:
    for name, draw in DIFFERENCES.items():
        yield Case(name, lambda rng, n, f=draw: compare(f(rng, n), np.zeros(n)), 0.0)
    for shift in (0.0, 0.3):
        world = World(64, True, shift)
        reals = world.real(np.random.default_rng(7), 200)

        def pair(rng: Rng, n: int, w: World = world, reals: np.ndarray = reals) -> tuple[np.ndarray, ...]:
            seeds = w.real(rng, n)
            sets = seeds + 0.3 * w.real(rng, n) + w.shift, seeds + 0.3 * w.real(rng, n)
            return tuple(mmd_contributions(x, reals, bandwidth=w.bandwidth) for x in sets)

        rng = np.random.default_rng(8)
        large = [pair(rng, LARGE) for _ in range(LARGE_REPEATS)] if shift else []
        truth = float(np.mean([a.mean() - b.mean() for a, b in large])) if large else 0.0
        yield Case(
            f"contributions to RBF-MMD, {'shift 0.3' if shift else 'null'}",
            lambda rng, n, f=pair: compare(*f(rng, n)),
            truth,
        )


LOOKS = tuple(int(n) for n in np.unique(np.linspace(8, 64, 20).round()))
RACE = (8, 16, 32, 64)


def of_looks(runs: int) -> None:
    print(f"\n## False verdicts: differences of mean 0, {runs} runs\n")
    print(f"| differences | anytime, {len(LOOKS)} looks | anytime, {len(RACE)} looks |", end="")
    print(f" no widening, {len(LOOKS)} looks | plain t, {len(LOOKS)} looks | plain t, last look |")
    print("|---|---|---|---|---|---|")
    for name, draw in DIFFERENCES.items():
        rng = np.random.default_rng(3)
        draws = np.stack([draw(rng, LOOKS[-1]) for _ in range(runs)])
        shares = (
            np.mean(anytime_looks(draws, LOOKS) < math.inf),
            np.mean(anytime_looks(draws, RACE) < math.inf),
            np.mean(fixed_looks(draws, LOOKS, unwidened) < math.inf),
            np.mean(fixed_looks(draws, LOOKS, plain) < math.inf),
            np.mean(fixed_looks(draws, LOOKS[-1:], plain) < math.inf),
        )
        print(f"| {name} |", " | ".join(f"{share:.1%}" for share in shares), "|", flush=True)
    print(f"\n## Pairs until the verdict, {runs} runs of normal differences (share of runs with one by 64)\n")
    print("| mean, in SDs | 20 looks | 20 looks, no widening | 4 looks | 4 looks, no widening |")
    print("|---|---|---|---|---|")
    for effect in (0.3, 0.5, 1.0):
        draws = np.random.default_rng(4).normal(effect, size=(runs, LOOKS[-1]))
        cells = []
        for looks in (LOOKS, RACE):
            for found in (anytime_looks(draws, looks), fixed_looks(draws, looks, unwidened)):
                done, middle = float(np.mean(found < math.inf)), float(np.median(found))
                cells.append(f"{'> 64' if math.isinf(middle) else f'{middle:.0f}'} ({done:.0%})")
        print(f"| {effect:g} |", " | ".join(cells), "|", flush=True)


def anytime_looks(draws: np.ndarray, looks: tuple[int, ...]) -> np.ndarray:
    """The look at which each run of `compare` declares a winner; infinity for none."""

    def declared(differences: np.ndarray) -> bool:
        e = compare(differences, np.zeros(len(differences)), anytime=True)
        return e.low is not None and e.high is not None and not e.low <= 0 <= e.high

    return np.array([next((n for n in looks if declared(run[:n])), math.inf) for run in draws])


def fixed_looks(draws: np.ndarray, looks: tuple[int, ...], reach: Callable[[int], float]) -> np.ndarray:
    """The same where the interval reaches so many SDs both ways."""
    found = np.full(len(draws), math.inf)
    for n in reversed(looks):
        some = draws[:, :n]
        spread = some.std(axis=1, ddof=1)
        found[(np.abs(some.mean(axis=1)) > reach(n) * spread) & (spread > 0)] = n
    return found


def unwidened(n: int) -> float:
    """The confidence sequence for normal differences, without regard to skew."""
    return _half_width(n, 0.05)


def plain(n: int) -> float:
    return float(stdtrit(n - 1, 0.975)) / math.sqrt(n)


TABLES: dict[str, tuple[str, Callable[[], Iterator[Case]], float]] = {
    "frechet": (
        "Fréchet distance: its mean at these sizes",
        lambda: on_worlds(lambda _: frechet_distance, lambda _: None),
        1.0,
    ),
    "infinity": ("Fréchet distance at infinity: between the populations", of_infinity, 0.5),
    "mmd": (
        "RBF-MMD",
        lambda: on_worlds(lambda w: two_sample(w)["mmd"], lambda w: large_mean(w, "mmd")),
        1.0,
    ),
    "kid": ("KID", lambda: on_worlds(lambda _: kid, lambda w: large_mean(w, "kid")), 1.0),
    "bootstrap": ("Naive bootstrap of RBF-MMD (not offered)", of_bootstrap, 0.1),
    "diversity": ("Diversity of one set", of_diversity, 1.0),
    "alignment": ("Alignment", of_alignment, 1.0),
    "inception": ("Inception score: its mean at these sizes", of_inception, 1.0),
    "classifiers": ("AUROC, accuracy, group bootstrap", of_classifiers, 1.0),
    "compare": ("compare, plain", of_comparisons, 2.0),
}


def main() -> None:
    names = (*TABLES, "looks")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000, help="half for infinity, twice for compare")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--only", default=",".join(names), help=f"of {', '.join(names)}; default: all")
    options = parser.parse_args()
    only = set(options.only.split(","))
    if only - set(names):
        parser.error(f"--only: {', '.join(sorted(only - set(names)))}; choose from {', '.join(names)}")
    for name, (title, cases, part) in TABLES.items():
        if name in only:
            show(title, cases(), max(1, round(part * options.repeats)))
    if "looks" in only:
        of_looks(options.runs)


if __name__ == "__main__":
    main()
