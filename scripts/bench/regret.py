"""How far from the best prompt do searches end, where the truth is known?

    python scripts/bench/regret.py [--repeats 20] [--table work/table/table.npz] [--trials 50 100]

The search is replayed on tables, so no image is made. Planted: 6 slots, 12,000 prompts, whose values are
sums of effects of options, of pairs of options and of the prompt itself (35 % and 15 % of the variance), unit
variance; one image's score is the value plus an effect of its seed, which all prompts share, plus noise of
its own, half and half, such that 16 images have the SD printed. Real: the table of
scripts/bench/prompt_table.py; its seeds count as all there are, and panels are drawn from them with
replacement.

Every method has the same budget of images (16 a trial; ours gives every prompt 8 and promising ones up to 64,
so that it sees more prompts), and ends with its best 8 prompts on 64 fresh images,
of which the best mean is taken, except MIPROv2's scheme, which takes its own. Regret: the value of the best
prompt of all minus that of the one taken, in SDs of the values over prompts; mean and 95 % interval.

What it costs to propose several prompts at a time, as `proposals_per_step: auto` does for many workers:

    python scripts/bench/regret.py --methods ours "ours, 8 at a time" "ours, 16 at a time"

prints below the methods the difference of each "ours, ..." to "ours" (2 at a time), world by world.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from prompt_table import TEMPLATE

from evaluation.estimate import Estimate
from promptopt.config.study_file import SearchSettings
from promptopt.search.candidates import Candidates
from promptopt.search.engine import EXTENDED, MemoryLog, Pull, Scored, Search, images_made, ranked
from promptopt.search.samplers import Sampling
from promptopt.space import Candidate, PromptSpace, compile_template

IMAGES, FIRST_LOOK, TOP, FRESH = 16, 8, 8, 64
LEVELS = (5, 6, 10, 5, 4, 2)


@dataclass
class World:
    """Prompts with known values, and noisy images of them.

    Attributes:
        labels: candidate -> its row.
        values: true value of each.
        image: (row, panel, count) -> scores of the first images of a panel of seeds.
    """

    space: PromptSpace
    listed: Mapping[Candidate, Mapping[str, str]]
    values: np.ndarray
    image: Callable[[int, int, int], np.ndarray]

    def __post_init__(self) -> None:
        self.labels = {one: i for i, one in enumerate(self.listed)}
        self.choices = list(self.listed.values())

    def regret(self, row: int) -> float:
        return float((self.values.max() - self.values[row]) / self.values.std())

    def confirmed(self, rows: Sequence[int]) -> int:
        return max(rows, key=lambda row: float(self.image(row, 1, FRESH).mean()))


def planted_space() -> tuple[PromptSpace, dict[Candidate, dict[str, str]]]:
    groups = ["{" + "|".join(f"s{i}o{j}" for j in range(n)) + "}" for i, n in enumerate(LEVELS)]
    space = compile_template(" ".join(groups), {})
    return space, space.distinct(20_000)


def planted(
    seed: int, noise: float, space: PromptSpace, listed: Mapping[Candidate, Mapping[str, str]]
) -> World:
    rng = np.random.default_rng([seed, 1])
    codes = np.array(list(itertools.product(*map(range, LEVELS))))

    def unit(values: np.ndarray) -> np.ndarray:
        return (values - values.mean()) / values.std()

    options = unit(sum(rng.normal(size=n)[codes[:, i]] for i, n in enumerate(LEVELS)))
    both = itertools.combinations(range(len(LEVELS)), 2)
    pairs = unit(sum(rng.normal(size=(LEVELS[i], LEVELS[j]))[codes[:, i], codes[:, j]] for i, j in both))
    own = unit(rng.normal(size=len(codes)))
    values = unit(np.sqrt(0.5) * options + np.sqrt(0.35) * pairs + np.sqrt(0.15) * own)
    spread = noise * np.sqrt(IMAGES / 2)

    def image(row: int, panel: int, count: int) -> np.ndarray:
        shared = np.random.default_rng([seed, 2, panel]).normal(size=256)[:count]
        alone = np.random.default_rng([seed, 3, panel, row]).normal(size=256)[:count]
        return values[row] + spread * (shared + alone)

    return World(space, listed, values, image)


def real(path: Path, seed: int) -> World:
    table = np.load(path)
    space = compile_template(TEMPLATE, {})
    listed = space.distinct(20_000)
    place = {str(prompt): i for i, prompt in enumerate(table["prompts"])}
    scores = np.zeros(table["alignment"].shape)
    for name, sign in (("alignment", 1), ("utility", 1), ("distance", -1)):
        scores += sign * (table[name] - table[name][0]) / table[name][0].std(ddof=1)
    rows = scores[[place[one.label] for one in listed]]

    def image(row: int, panel: int, count: int) -> np.ndarray:
        drawn = np.random.default_rng([seed, 4, panel]).integers(rows.shape[1], size=256)[:count]
        return np.asarray(rows[row, drawn])

    return World(space, listed, rows.mean(axis=1), image)


def ours(world: World, budget: int, seed: int, **changes: object) -> int:
    images = FIRST_LOOK if changes.get("racing", True) else IMAGES
    further = 1 + EXTENDED if images == FIRST_LOOK else 1
    trials = int(budget / (images * further))
    settings = SearchSettings.model_validate({"trials": trials, "images": images, "stop": None, **changes})
    sampling = Sampling(
        candidates=Candidates(world.space, world.listed), name=str(changes.get("sampler", "slots")), seed=seed
    )
    search = Search(sampling=sampling, settings=settings, baseline=Candidate(""))
    log = MemoryLog()

    def scorer(wanted: Sequence[Pull]) -> list[Scored]:
        found = []
        for pull in wanted:
            scores = world.image(world.labels[pull.candidate], 0, pull.images)
            found.append(Scored(Estimate.of_mean(scores), {"score": tuple(scores.tolist())}))
        return found

    search.run(log, scorer)
    if images_made(log.rows) > budget:
        raise SystemExit(f"{images_made(log.rows)} images for a budget of {budget}")
    best = ranked(log.rows, sampling)[:TOP]
    return world.confirmed([world.labels[row.candidate] for row, _, _ in best])


def sampled(world: World, budget: int, sampler: optuna.samplers.BaseSampler) -> int:
    """Optuna with `IMAGES` images a new prompt, the same seeds for all."""
    return world.confirmed(_best(_asked(world, budget // IMAGES, sampler), TOP))


def _asked(world: World, trials: int, sampler: optuna.samplers.BaseSampler) -> dict[int, float]:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found: dict[int, float] = {}
    for _ in range(3 * trials):
        if len(found) >= trials:
            break
        trial, row = _ask(world, study)
        if row not in found:
            found[row] = float(world.image(row, 0, IMAGES).mean())
        study.tell(trial, found[row])
    return found


def _ask(world: World, study: optuna.Study) -> tuple[optuna.Trial, int]:
    slots = world.space.slots
    trial = study.ask({s.name: optuna.distributions.CategoricalDistribution(s.options) for s in slots})
    return trial, world.labels[world.space.candidate({s.name: str(trial.params[s.name]) for s in slots})]


def _best(found: Mapping[int, float], count: int) -> list[int]:
    return sorted(found, key=lambda row: -found[row])[:count]


def mipro(world: World, budget: int, seed: int) -> int:
    """Multivariate TPE on minibatches of other seeds each time; every fifth trial the prompt with the best
    mean is measured in full; the best full mean wins (DSPy's MIPROv2)."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True)
    )
    batches: dict[int, list[float]] = {}
    full: dict[int, float] = {}
    spent, number = 0, 0
    while spent + IMAGES <= budget:
        trial, row = _ask(world, study)
        value = float(world.image(row, 100 + number, IMAGES).mean())
        study.tell(trial, value)
        batches.setdefault(row, []).append(value)
        spent, number = spent + IMAGES, number + 1
        if number % 5 == 0 and spent + FRESH <= budget:
            rest = {row: float(np.mean(values)) for row, values in batches.items() if row not in full}
            if rest:
                best = _best(rest, 1)[0]
                full[best] = float(world.image(best, 99, FRESH).mean())
                spent += FRESH
    return _best(full, 1)[0]


def halving(world: World, budget: int, seed: int) -> int:
    """Random prompts on 8 images, the better half on 16, and so on to 64."""
    rng = np.random.default_rng([seed, 5])
    rows = [
        int(i) for i in rng.choice(len(world.values), min(budget // 20, len(world.values)), replace=False)
    ]
    for images in (8, 16, 32, 64):
        means = {row: float(world.image(row, 0, images).mean()) for row in rows}
        rows = _best(means, max(TOP, len(rows) // 2))
    return world.confirmed(_best(means, TOP))


_LEFT_OUT = ("GPSampler", "at a time")  # unless they are asked for

METHODS: dict[str, Callable[[World, int, int], int]] = {
    "ours": ours,
    "ours, a third of the images": lambda w, b, s: ours(w, b // 3, s),
    "ours, 16 images each": lambda w, b, s: ours(w, b, s, racing=False),
    "ours, 8 at a time": lambda w, b, s: ours(w, b, s, proposals_per_step=8),
    "ours, 16 at a time": lambda w, b, s: ours(w, b, s, proposals_per_step=16),
    "plain TPE": lambda w, b, s: sampled(w, b, optuna.samplers.TPESampler(seed=s, multivariate=False)),
    "multivariate TPE": lambda w, b, s: sampled(w, b, optuna.samplers.TPESampler(seed=s, multivariate=True)),
    "MIPROv2's scheme": mipro,
    "random": lambda w, b, s: sampled(w, b, optuna.samplers.RandomSampler(seed=s)),
    "successive halving": halving,
    "Optuna's GPSampler": lambda w, b, s: sampled(w, b, optuna.samplers.GPSampler(seed=s)),
}
USUAL = [name for name in METHODS if not any(part in name for part in _LEFT_OUT)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--noise", type=float, nargs="*", default=[0.5, 1.0])
    parser.add_argument("--table", type=Path, help="of scripts/bench/prompt_table.py")
    parser.add_argument("--methods", nargs="+", default=USUAL)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, listed = planted_space()
    worlds: dict[str, Callable[[int], World]] = {
        f"planted, noise {noise:g}": lambda seed, noise=noise: planted(seed, noise, space, listed)
        for noise in options.noise
    }
    if options.table is not None:
        worlds["real table"] = lambda seed: real(options.table, seed)
    print("| world | trials | method | regret | images | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, make in worlds.items():
        for trials in options.trials:
            found: dict[str, list[float]] = {method: [] for method in options.methods}
            seconds = dict.fromkeys(options.methods, 0.0)
            for seed in range(options.first, options.first + options.repeats):
                world = make(seed)
                for method in options.methods:
                    began = time.perf_counter()
                    found[method].append(world.regret(METHODS[method](world, trials * IMAGES, seed)))
                    seconds[method] += time.perf_counter() - began
                print(f"{name}, {trials} trials, seed {seed}", file=sys.stderr, flush=True)
            for method, values in found.items():
                mean = Estimate.of_mean(values)
                images = trials * IMAGES // (3 if "third" in method else 1)
                print(
                    f"| {name} | {trials} | {method} | {mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f}) "
                    f"| {images} | {seconds[method] / options.repeats:.2f} |",
                    flush=True,
                )
            for method, values in found.items():
                if method.startswith("ours, ") and "ours" in found:
                    more = Estimate.of_mean(np.subtract(values, found["ours"]))
                    print(
                        f"| {name} | {trials} | {method}, against ours | {more.value:+.2f} "
                        f"({more.low:+.2f} to {more.high:+.2f}) | | |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
