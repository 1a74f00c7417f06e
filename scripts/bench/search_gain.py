"""Is the prompt that a study confirms better than the plain one and than random ones, on unseen seeds?

    python scripts/bench/search_gain.py [--seeds 3] [--trials 40] [--images 8] [--confirmed 64] [--judged 48]
        [--random 8] [--diversity 0.5]

For each category and study seed: a study finds and confirms its best prompt. Then that prompt, the
category's baseline and random prompts of the same template are drawn again on a third set of seeds and scored
against the test pool. The score is 0 for the baseline by definition; its unit is the SD of the baseline's
images.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.estimate import Estimate
from promptopt.config.study_file import StudyConfig
from promptopt.run.prompts import EstimateEntry, PromptList
from promptopt.space.of_category import compile_space, open_category
from promptopt.study.run import run_study
from studies.category import CATEGORIES

Row = dict[str, Any]


def study(category: str, seed: int, options: argparse.Namespace, **changes: Any) -> StudyConfig:
    content = {
        "name": f"gain-{category}-{seed}",
        "aim": "single",
        "category": category,
        "data": {"phantom": {"images": 1500, "seed": 1}},
        "judge": "embedded",
        "search": {"trials": options.trials, "images": options.images, "sampler": options.sampler},
        "constraints": {"diversity": options.diversity},
        "confirm": {"top": 4, "images": options.confirmed},
        "seed": seed,
    }
    return StudyConfig.model_validate(content | changes)


def run(config: StudyConfig, options: argparse.Namespace, given: list[str] | None = None) -> PromptList:
    work: Path = options.work
    return run_study(config, runs=work / "runs", store=work / "store", given=given or []).prompts


def compare(category: str, seed: int, options: argparse.Namespace) -> Row:
    config = study(category, seed, options)
    winner = run(config, options).prompts[0].prompt
    space = compile_space(open_category(config), "bench")
    rng = np.random.default_rng([seed, 99])
    drawn: dict[str, None] = {}
    while len(drawn) < min(options.random, space.size - 1):
        prompt = space.render(space.sample(rng))
        if prompt != winner:
            drawn[prompt] = None
    # A study of another seed whose search is one trial: what counts is its confirmation of the given prompts.
    judging = study(
        category,
        seed + 1000,
        options,
        name=f"gain-{category}-{seed}-judging",
        search={"trials": 1, "images": options.images, "sampler": "random"},
        confirm={"top": 1, "images": options.judged},
    )
    result = run(judging, options, [winner, *drawn])
    found = {entry.prompt: entry.confirmation for entry in result.prompts}
    others = [found[prompt] for prompt in drawn]
    row: Row = {"category": category, "seed": seed, "winner": winner}
    for key, title in (("score", "score"), ("judge_accuracy", "judge")):
        row[f"{title}: winner"] = found[winner][key]
        row[f"{title}: baseline"] = result.baseline.confirmation[key]
        row[f"{title}: random"] = mean([other[key] for other in others])
    row["winner - random"] = mean([value(found[winner]["score"]) - value(other["score"]) for other in others])
    return row


def value(estimate: EstimateEntry) -> float:
    if estimate.value is None:
        raise SystemExit(f"undefined estimate: {estimate}")
    return estimate.value


def mean(entries: list[Any]) -> Estimate:
    """Mean over prompts, t interval over prompts."""
    return Estimate.of_mean([entry if isinstance(entry, float) else value(entry) for entry in entries])


def shown(cell: Any) -> str:
    if isinstance(cell, Estimate | EstimateEntry):
        if cell.value is None:
            return "undefined"
        span = "" if cell.low is None or cell.high is None else f" ({cell.low:.2f} to {cell.high:.2f})"
        return f"{cell.value:.2f}{span}"
    return str(cell)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("work/search-gain"))
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--images", type=int, default=8, help="per trial")
    parser.add_argument("--confirmed", type=int, default=64, help="fresh images per prompt in a study")
    parser.add_argument("--judged", type=int, default=48, help="fresh images per prompt in the comparison")
    parser.add_argument("--random", type=int, default=8, help="random prompts to compare with")
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--diversity", type=float, default=0.5, help="floor, as a share of the real images'")
    options = parser.parse_args()
    rows = []
    for category in options.categories:
        for seed in range(options.seeds):
            rows.append(compare(category, seed, options))
            print(f"{category}, seed {seed}: {rows[-1]['winner']!r}", file=sys.stderr, flush=True)
    head = list(rows[0])
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(shown(row[key]) for key in head) + " |")
    options.work.mkdir(parents=True, exist_ok=True)
    with (options.work / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        writer.writerows([shown(row[key]) for key in head] for row in rows)
    for title in ("score", "judge"):
        for other in ("baseline", "random"):
            gaps = [value(r[f"{title}: winner"]) - value(r[f"{title}: {other}"]) for r in rows]
            print(
                f"\n{title}, winner minus {other}, over {len(gaps)} studies: {shown(Estimate.of_mean(gaps))}"
            )


if __name__ == "__main__":
    main()
