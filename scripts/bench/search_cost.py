"""Processor seconds of the search itself, by the number of prompts: no images, planted values.

    python scripts/bench/search_cost.py [--prompts 100,300,600,1000] [--aim set|single|both] [--per-step 8]

A template of 4,608 prompts (six slots). `single` is the race for the best prompt with the model over slots, 4
images a prompt; `set` the search for a set, its budget 4 images a prompt. The last column says how good the
end is: regret of the prompt recommended (SDs of the prompts' values), or MMD^2 x 1000 to held-out images.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from promptopt.config.study_file import SearchSettings
from promptopt.search.candidates import Candidates
from promptopt.search.engine import MemoryLog, Search, ranked
from promptopt.search.samplers import Sampling
from promptopt.space import Candidate, compile_template
from tests.promptopt.search.sets.worlds import World
from tests.promptopt.search.test_engine import Table

SIZES = (4, 6, 4, 4, 4, 3)


def single(prompts: int, per_step: int) -> tuple[float, float]:
    text = " ".join("{" + "|".join(f"s{s}o{o}" for o in range(n)) + "}" for s, n in enumerate(SIZES))
    space = compile_template(text)
    table, log = Table(space=space, noise=1.0), MemoryLog()
    settings = SearchSettings(trials=prompts, images=4, stop=None, proposals_per_step=per_step)
    sampling = Sampling(candidates=Candidates(space, space.distinct(20_001)), name="slots", seed=3)
    begun = time.process_time()
    Search(sampling=sampling, settings=settings, baseline=Candidate("none")).run(log, table)
    took = time.process_time() - begun
    values = np.array(list(table.values.values()))
    first = ranked(log.rows, sampling)[0][0].candidate
    return took, float((values.max() - table.values[first]) / values.std())


def of_sets(prompts: int, per_step: int) -> tuple[float, float]:
    world = World(5, sizes=SIZES)
    begun = time.process_time()
    _, state = world.search(images=4 * prompts, proposals=per_step)
    took = time.process_time() - begun
    return took, 1000 * world.distance(world.by_code(state, state.weights))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", default="100,300,600,1000")
    parser.add_argument("--aim", default="both", choices=("set", "single", "both"))
    parser.add_argument("--per-step", type=int, default=8)
    options = parser.parse_args()
    for aim, run, what in (("single", single, "regret"), ("set", of_sets, "MMD^2")):
        if options.aim in (aim, "both"):
            for prompts in map(int, options.prompts.split(",")):
                took, end = run(prompts, options.per_step)
                print(f"{aim:6} {prompts:5} prompts: {took:7.1f} s, {what} {end:.2f}", flush=True)


if __name__ == "__main__":
    main()
