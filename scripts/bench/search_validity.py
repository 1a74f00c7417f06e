"""Do races eliminate the equal, and do confirmed intervals hold the truth?

    python scripts/bench/search_validity.py [--races 2000] [--studies 200] [--table work/table/table.npz]

Races: a prompt and a rival of the same value on the same seeds, looked at after 8, 16, 32 and 64 images; a
false elimination is the prompt losing. With two rivals, as in a study (baseline and incumbent), both are
equal to it. Laws of the differences: normal, skewed (log-normal minus its mean), and, with a table, those of
pairs of real prompts, moved to mean 0 and drawn with replacement.

Studies: 48 prompts of 8 images and more on planted worlds (see regret.py) and on the table; the best 5 are
confirmed on 32 fresh images. Printed: how often the 95 % intervals of score minus baseline hold the truth,
over all confirmed prompts and for the first alone; and optimism, estimate minus truth, of the search score,
of the model's prediction, of the fresh score, and of the shrunken score.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from regret import World, planted, planted_space, real

from evaluation.estimate import Estimate
from promptopt.config.study_file import SearchSettings
from promptopt.search.candidates import Candidates
from promptopt.search.engine import MemoryLog, Pull, Scored, Search, ranked
from promptopt.search.model.shrinkage import shrink
from promptopt.search.racing import beaten, stages
from promptopt.search.samplers import Sampling
from promptopt.space import Candidate

Law = Callable[[np.random.Generator, int], np.ndarray]
LOOKS = stages(8, racing=True)


def laws(table: Path | None) -> dict[str, Law]:
    found: dict[str, Law] = {
        "normal": lambda rng, n: rng.normal(size=n),
        "skewed to the left": lambda rng, n: np.exp(0.5) - rng.lognormal(size=n),
        "skewed to the right": lambda rng, n: rng.lognormal(size=n) - np.exp(0.5),
    }
    if table is not None:
        rows = _scores(table)

        def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
            a, b = rng.choice(len(rows), 2, replace=False)
            differences = rows[a] - rows[b]
            return np.asarray(rng.choice(differences - differences.mean(), n))

        found["pairs of real prompts"] = drawn
    return found


def _scores(path: Path) -> np.ndarray:
    table = np.load(path)
    terms = (("alignment", 1), ("utility", 1), ("distance", -1))
    return np.sum([s * table[name] / table[name][0].std(ddof=1) for name, s in terms], axis=0)


def eliminated(law: Law, rng: np.random.Generator, rivals: int) -> bool:
    own = law(rng, LOOKS[-1])
    zero = np.zeros(LOOKS[-1])
    others = {"baseline": zero} | ({"incumbent": own - law(rng, LOOKS[-1])} if rivals > 1 else {})
    return any(
        beaten({"score": own[:n]}, {name: {"score": rival[:n]} for name, rival in others.items()})
        for n in LOOKS
    )


def study(world: World, seed: int) -> list[Mapping[str, float]]:
    """One row a confirmed prompt, the first of the fresh ranking first."""
    baseline = world.labels[world.space.candidate(world.space.likeliest())]
    settings = SearchSettings(trials=48, images=8, stop=None)
    sampling = Sampling(candidates=Candidates(world.space, world.listed), name="slots", seed=seed)
    log = MemoryLog()

    def gains(row: int, panel: int, count: int) -> np.ndarray:
        return world.image(row, panel, count) - world.image(baseline, panel, count)

    def scorer(wanted: list[Pull]) -> list[Scored]:
        rows = [gains(world.labels[pull.candidate], 0, pull.images) for pull in wanted]
        return [Scored(Estimate.of_mean(row), {"score": tuple(row.tolist())}) for row in rows]

    Search(sampling=sampling, settings=settings, baseline=Candidate("")).run(log, scorer)
    found, best = [], ranked(log.rows, sampling)[:5]
    panels = [gains(world.labels[row.candidate], 1, 32) for row, _, _ in best]
    estimates = [Estimate.of_mean(panel) for panel in panels]
    worth = shrink(estimates, panels, [(mean, sd) for _, mean, sd in best])
    for (row, mean, _), fresh, shrunk in zip(best, estimates, worth, strict=True):
        number = world.labels[row.candidate]
        truth = float(world.values[number] - world.values[baseline])
        assert None not in (fresh.value, fresh.low, fresh.high, shrunk.value, shrunk.low, shrunk.high)
        found.append(
            {
                "fresh": fresh.value,
                "held": float(fresh.low <= truth <= fresh.high) if number != baseline else np.nan,
                "shrunken held": float(shrunk.low <= truth <= shrunk.high),
                "search optimism": row.value - truth,
                "predicted optimism": mean - truth,
                "fresh optimism": fresh.value - truth,
                "shrunken optimism": shrunk.value - truth,
            }
        )
    return sorted(found, key=lambda one: -one["fresh"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--races", type=int, default=2000)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--table", type=Path, help="of scripts/bench/prompt_table.py")
    options = parser.parse_args()
    print("| differences | false eliminations, one rival | two rivals |\n| --- | --- | --- |")
    for name, law in laws(options.table).items():
        cells = []
        for rivals in (1, 2):
            rng = np.random.default_rng([7, rivals])
            lost = sum(eliminated(law, rng, rivals) for _ in range(options.races))
            cells.append(_share(Estimate.of_proportion(lost, options.races)))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    space, listed = planted_space()
    worlds: dict[str, Callable[[int], World]] = {
        "planted, noise 1": lambda seed: planted(seed, 1.0, space, listed)
    }
    if options.table is not None:
        worlds["real table"] = lambda seed: real(options.table, seed)
    columns = ("search", "predicted", "fresh", "shrunken")
    print(f"\n| world | intervals hold | shrunken ones | {' | '.join(f'{c}: optimism' for c in columns)} |")
    print("|" + " --- |" * 7)
    for name, make in worlds.items():
        results = []
        for seed in range(options.studies):
            results.append(study(make(1000 + seed), seed))
            print(f"{name}: {seed + 1} of {options.studies}", file=sys.stderr, flush=True)
        for who, rows in (
            ("all five", [row for result in results for row in result]),
            ("the first", [result[0] for result in results]),
        ):
            print(f"| {name}, {who} | {_held(rows, 'held')} | {_held(rows, 'shrunken held')} | ", end="")
            print(" | ".join(_mean(rows, f"{c} optimism") for c in columns) + " |", flush=True)


def _held(rows: list[Mapping[str, float]], key: str) -> str:
    values = [row[key] for row in rows if np.isfinite(row[key])]
    return _share(Estimate.of_proportion(int(sum(values)), len(values)))


def _mean(rows: list[Mapping[str, float]], key: str) -> str:
    found = Estimate.of_mean([row[key] for row in rows])
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _share(found: Estimate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


if __name__ == "__main__":
    main()
