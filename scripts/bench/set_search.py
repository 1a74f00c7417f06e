"""What a set of prompts is worth as training data, on hospitals whose truth is known.

    python scripts/bench/set_search.py [--hospitals coast,summit,delta] [--seeds 0,1,2] [--budget 600]

For each hospital and seed a study of two classes is run (40 real images a class may be looked at, 20 of them
train the classifier), and a small network is trained on 20 real images a class and 100 synthetic ones by each
method. Beside the study's own methods there are captions of the real images as prompts, and an oracle:
prompts written from true attributes of other images of the same hospital. Prints balanced accuracy and
distance for each study, and means with intervals over studies.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.estimate import Estimate
from promptopt.config.study_file import StudyConfig, study_from_mapping
from promptopt.run.prompt_sets import SetList, read_sets, spread
from promptopt.space import Candidate
from promptopt.space.captions import caption_prompts
from promptopt.study.observer import Observer
from promptopt.study.sets.run import run_set_study
from studies.dataset import read_dataset
from studies.phantom import oracle_prompts, write_phantom

CLASSES = {"polyp": "polyps-wide", "normal": "normal"}
ORDER = ("real", "single", "baseline", "random", "captions", "learned", "set", "oracle")


class Lines(Observer):
    """Phases and steps, on lines."""

    def on_phase(self, text: str) -> None:
        print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


def study_of(hospital: str, seed: int, options: argparse.Namespace) -> StudyConfig:
    return study_from_mapping(
        {
            "name": f"{hospital}-{seed}-{options.budget}{options.tag}",
            "classes": {label: {"category": category} for label, category in CLASSES.items()},
            "data": {"phantom": {"images": options.real, "seed": seed, "hospital": hospital}},
            "set": {"budget": options.budget, "tolerance": None, "prompts": options.prompts},
            "score": json.loads(options.score),
            "search": {"proposals_per_step": 4},
            "confirm": {
                "images": options.images,
                "classifier": {"seeds": options.trainings, "steps": 400, "images": options.images},
            },
            "seed": seed,
        }
    )


def given(hospital: str, seed: int, options: argparse.Namespace) -> dict[str, dict[str, list[Candidate]]]:
    """Captions of the real images that may be looked at, and the oracle's prompts."""
    folder = Path(options.work) / "oracle" / f"{hospital}-{seed}-{options.real}"
    data = write_phantom(folder, images=options.real, seed=seed, hospital=hospital, test=8)
    others = write_phantom(
        folder.with_name(folder.name + "-other"), images=100, seed=10_000 + seed, hospital=hospital, test=8
    )
    found: dict[str, dict[str, list[Candidate]]] = {}
    for label in CLASSES:
        captions = weights_of(caption_prompts(read_dataset(data.root), label))
        oracle = weights_of(oracle_prompts(others, label))
        found[label] = {
            "captions": spread(captions, options.images, seed=seed),
            "oracle": spread(oracle, options.images, seed=seed),
        }
    return found


def weights_of(prompts: Sequence[tuple[str, float]]) -> dict[Candidate, float]:
    total: dict[Candidate, float] = {}
    for prompt, weight in prompts:
        total[Candidate(prompt)] = total.get(Candidate(prompt), 0.0) + weight
    return total


def show(name: str, sets: SetList, seconds: Mapping[str, float]) -> None:
    took = ", ".join(f"{phase} {value:.0f} s" for phase, value in seconds.items())
    print(f"== {name}: {sets.sentence} ({took})")
    for entry in sets.classes:
        bound = entry.certificate
        print(
            f"  {entry.label}: {len(entry.set.prompts)} prompts of {entry.prompts_measured} measured, "
            f"certificate {'-' if bound is None else f'{bound.bound:.4f}'}; MMD^2 x 1000: "
            + ", ".join(
                f"{m} {1000 * (entry.closeness[m].value or 0):.0f}" for m in ORDER if m in entry.closeness
            )
        )
    print(
        "  balanced accuracy: "
        + ", ".join(f"{m} {100 * (sets.accuracy[m].value or 0):.1f}" for m in ORDER if m in sets.accuracy),
        flush=True,
    )


def summary(all_sets: Sequence[SetList]) -> None:
    rows = {m: np.array([100 * (s.accuracy[m].value or 0) for s in all_sets]) for m in ORDER}
    print(f"\nmean over {len(all_sets)} studies, balanced accuracy in %")
    for method, values in rows.items():
        print(f"  {method:10} {values.mean():5.1f}")
    for other in ("baseline", "random", "single", "captions", "learned", "real"):
        gap = Estimate.of_mean(rows["set"] - rows[other])
        print(f"  set - {other:10} {gap.value:+5.1f} ({gap.low or np.nan:+.1f} to {gap.high or np.nan:+.1f})")
    way = (rows["set"] - rows["baseline"]).mean() / max((rows["oracle"] - rows["baseline"]).mean(), 1e-9)
    print(f"  of the way from baseline to oracle: {100 * way:.0f} %")
    print(f"  studies with the set below the baseline: {int((rows['set'] < rows['baseline']).sum())}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hospitals", default="coast,summit,delta")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", type=int, default=600, help="images of the search a class")
    parser.add_argument("--real", type=int, default=40, help="real images a class that may be looked at")
    parser.add_argument("--images", type=int, default=100, help="synthetic images a class")
    parser.add_argument("--prompts", type=int, default=16, help="most prompts of a set")
    parser.add_argument("--trainings", type=int, default=5)
    parser.add_argument("--score", default='{"closeness": 1}', help="weights of the terms, as JSON")
    parser.add_argument("--tag", default="", help="added to the names of the runs")
    parser.add_argument("--work", default="work/set-search")
    options = parser.parse_args()
    done = []
    for hospital in options.hospitals.split(","):
        for seed in map(int, options.seeds.split(",")):
            config = study_of(hospital, seed, options)
            result = run_set_study(
                config,
                runs=Path(options.work) / "runs",
                store=Path(options.work) / "store",
                observer=Lines(),
                given=given(hospital, seed, options),
            )
            show(config.name, result.sets, result.seconds)
            done.append(read_sets(result.prompts_path))
    if len(done) > 1:
        summary(done)


if __name__ == "__main__":
    main()
