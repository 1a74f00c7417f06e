"""What a finished study's sets are worth class by class: recall, and calibration, with each kind of image.

    python scripts/bench/set_classes.py work/real/target.yaml --runs work/real/runs --store work/real/store

Trains what the study's confirmation trained (with the same --store nothing is trained twice): a small network
on the real images of the pool reference, alone and with each method's fresh images. Prints balanced accuracy,
each class's recall and the calibration error, and the set minus every other method, with 95 % intervals over
seeds and test groups; p after Holm over the rows of a column.
"""

import argparse
from pathlib import Path

from evaluation.classifier.engine import REAL_TEST, Arm, View, train_arms
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.network import read_pixels
from evaluation.classifier.results import MAIN
from evaluation.classifier.small_network import SmallNetwork
from evaluation.classifier.summary import Family, summarize
from promptopt.config.study_file import load_study
from promptopt.formatting.numbers import p_value, points
from promptopt.study.sets.run import run_set_study
from studies.dataset import Dataset, read_dataset


def real(data: Dataset, labels: list[str], pool: str, size: int) -> LabeledImages:
    records = []
    for label in labels:
        part = data.where(pool=pool, label=label)
        part = part if len(part) else data.where(pool=pool, category=label)
        records += [(label, record) for record in part]
    return LabeledImages(
        read_pixels([data.path(r) for _, r in records], size),
        tuple(label for label, _ in records),
        tuple(r.group for _, r in records),
        tuple(r.center for _, r in records),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--size", type=int, default=64, help="side of the study's images")
    options = parser.parse_args()
    config = load_study(options.study)
    own = config.confirm.classifier
    if own is None or not isinstance(config.data, str):
        raise SystemExit(f"{options.study}: needs a prepared data set and confirm.classifier")
    pictures = run_set_study(config, runs=options.runs, store=options.store).pictures
    labels, data = list(pictures), read_dataset(config.data)
    methods = list(next(iter(pictures.values())))
    view = View(
        learner=SmallNetwork(steps=own.steps),
        real=real(data, labels, "reference", options.size),
        test={REAL_TEST: real(data, labels, "test", options.size)},
        synthetic={
            method: LabeledImages.of(
                read_pixels([p for c in labels for p in pictures[c][method][: own.images]], options.size),
                [c for c in labels for _ in pictures[c][method][: own.images]],
                name=f"synthetic-{method}",
                center="synthetic",
            )
            for method in methods
        },
    )
    classes, seeds = sorted(labels), range(own.seeds)
    alone = Arm(name="real")
    arms = {method: Arm(name=f"real + {method}", synthetic=method) for method in methods}
    trained = train_arms(
        [view], [alone, *arms.values()], classes=classes, seeds=seeds, cache=options.store / "classifiers"
    )
    others = [alone, *(arm for method, arm in arms.items() if method != "set")]
    rows, compared = summarize(
        trained,
        view.test,
        classes=classes,
        seeds=seeds,
        families=[Family("set", tuple((arms["set"], other) for other in others))],
    )
    columns = [MAIN, *(f"recall:{name}" for name in classes), "ece"]
    heads = ["balanced accuracy", *(f"recall of {name}" for name in classes), "calibration error"]
    counts = ", ".join(f"{name} {view.test[REAL_TEST].labels.count(name)}" for name in classes)
    print(f"tested on {counts}; {len(view.real)} real images, {own.images} synthetic ones a class\n")
    print(f"| trained on | {' | '.join(heads)} |\n{'| --- ' * (len(heads) + 1)}|")
    for row in rows:
        print(f"| {row.title} | {' | '.join(points(row.estimates[c], sign='') for c in columns)} |")
    print(f"\n| real + set minus | {' | '.join(heads)} |\n{'| --- ' * (len(heads) + 1)}|")
    for one in compared:
        cells = []
        for column in columns:
            found = one.differences[column]
            p = "" if found.p_holm is None else f", p {p_value(found.p_holm)}"
            cells.append(f"{points(found.estimate)}{p}")
        print(f"| {one.second.title} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
