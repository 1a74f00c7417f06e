"""How much does comparing two prompts on the same seeds save?

    python scripts/bench/pairing.py work/table/table.npz [--pairs 200]

For pairs of prompts of a table of scripts/bench/prompt_table.py: the variance of the difference of two images
with one seed, over that of two images with two seeds. At 0.8, pairs need a fifth fewer images.
"""

import argparse
from pathlib import Path

import numpy as np

from evaluation.estimate import Estimate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args()
    table = np.load(options.table)
    terms = {name: table[name] for name in ("alignment", "utility", "distance")}
    signs = {"alignment": 1, "utility": 1, "distance": -1}
    terms["score"] = np.sum([signs[n] * v / v[0].std(ddof=1) for n, v in terms.items()], axis=0)
    rng = np.random.default_rng(0)
    pairs = [rng.choice(len(table["prompts"]), 2, replace=False) for _ in range(options.pairs)]
    print("| term | paired over unpaired variance, mean over pairs | smallest | largest |")
    print("| --- | --- | --- | --- |")
    for name, rows in terms.items():
        ratios = [
            float(np.var(rows[a] - rows[b], ddof=1) / (np.var(rows[a], ddof=1) + np.var(rows[b], ddof=1)))
            for a, b in pairs
        ]
        mean = Estimate.of_mean(ratios)
        print(
            f"| {name} | {mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f}) "
            f"| {min(ratios):.2f} | {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
