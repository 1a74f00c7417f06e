"""A list of prompts or a learned template: which trains the better classifier, by the number of images.

    python scripts/bench/set_amounts.py RUN [--images 100,1000,10000] [--trainings 5]

RUN is a finished study of sets on drawn scenes (such as one of set_search.py). For each
number, as many images a class are drawn from the set, the learned template, the baseline and random prompts,
and a small network is trained on the study's real reference images and these; the test is `--test` further
real images a class of the same hospital.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.progress import track

from evaluation.classifier.engine import REAL_TEST, Arm, View, train_arms
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.network import read_pixels
from evaluation.classifier.small_network import SmallNetwork
from evaluation.classifier.summary import Family, summarize
from generators.loading import load
from promptopt.config.study_file import load_study
from promptopt.run.prompt_sets import read_sets
from promptopt.space.of_category import category_space, class_studies, open_category
from studies.dataset import Dataset
from studies.phantom import write_phantom

METHODS = ("set", "learned", "baseline", "random")
SEED = 77
FIRST_SEED = 500_000  # far from the panel of any study
SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--images", default="100,1000,10000", help="synthetic images a class")
    parser.add_argument("--trainings", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--test", type=int, default=300, help="real test images a class")
    options = parser.parse_args()
    amounts = [int(text) for text in options.images.split(",")]
    config = load_study(options.run / "study.yaml")
    sets = read_sets(options.run / "prompts.json")
    if isinstance(config.data, str):
        raise SystemExit(f"{options.run}: the study is not on drawn scenes")
    phantom = config.data.phantom
    labels = [entry.label for entry in sets.classes]
    generator = load(config.generator.uri)
    spaces = {label: category_space(open_category(own)) for label, own in class_studies(config).items()}
    with tempfile.TemporaryDirectory() as folder:
        data = write_phantom(
            folder, images=phantom.images, seed=phantom.seed, hospital=phantom.hospital, test=options.test
        )
        real, test = (pictures(data, labels, pool=pool) for pool in ("reference", "test"))

    def made(method: str) -> dict[str, np.ndarray]:
        """Label -> pixels of the most images, in a seeded order of prompts and of seeds."""
        rows = {}
        for entry in sets.classes:
            prompts = entry.draw(method, max(amounts), seed=SEED, space=spaces[entry.label])
            order = np.random.default_rng(SEED).permutation(len(prompts))
            requests = [
                generator.request(prompts[place].prompt, FIRST_SEED + i) for i, place in enumerate(order)
            ]
            images = track(generator.generate(requests), f"{method} {entry.label}", total=len(requests))
            rows[entry.label] = np.stack([np.asarray(image) for image in images])
        return rows

    images = {method: made(method) for method in METHODS}
    print(f"{config.name}: balanced accuracy in % on {len(test)} real images; set minus each, 95 % interval")
    for amount in amounts:
        report(amount, images, real, test, options)


def pictures(data: Dataset, labels: list[str], *, pool: str) -> LabeledImages:
    """Pixels of a pool's images of these labels."""
    records = [record for record in data if record.pool == pool and record.label in labels]
    pixels = read_pixels([data.path(record) for record in records], SIZE)
    return LabeledImages.of(pixels, [r.label for r in records], name=pool, groups=[r.group for r in records])


def report(
    amount: int,
    images: Mapping[str, Mapping[str, np.ndarray]],
    real: LabeledImages,
    test: LabeledImages,
    options: argparse.Namespace,
) -> None:
    """Train with `amount` images a class of each method and print one line."""
    synthetic = {
        method: LabeledImages.of(
            np.concatenate([rows[:amount] for rows in own.values()]),
            [label for label, rows in own.items() for _ in rows[:amount]],
            name=f"synthetic-{method}",
        )
        for method, own in images.items()
    }
    arms = {method: Arm(name=method, synthetic=method) for method in synthetic}
    view = View(
        learner=SmallNetwork(steps=options.steps), real=real, test={REAL_TEST: test}, synthetic=synthetic
    )
    labels, seeds = sorted(set(real.labels)), range(options.trainings)
    with tempfile.TemporaryDirectory() as cache:
        trained = train_arms([view], list(arms.values()), classes=labels, seeds=seeds, cache=Path(cache))
    questions = tuple((arms["set"], arms[other]) for other in METHODS[1:])
    rows, compared = summarize(
        trained, view.test, classes=labels, seeds=seeds, families=[Family("amounts", questions)]
    )
    means = ", ".join(f"{r.arm.name} {100 * (r.estimates['balanced_accuracy'].value or 0):.1f}" for r in rows)
    gaps = []
    for one in compared:
        gap = one.differences["balanced_accuracy"].estimate
        gaps.append(
            f"{one.second.name} {100 * (gap.value or 0):+.1f} "
            f"({100 * (gap.low or 0):+.1f} to {100 * (gap.high or 0):+.1f})"
        )
    print(f"  {amount} images a class: {means}; " + ", ".join(gaps), flush=True)


if __name__ == "__main__":
    main()
