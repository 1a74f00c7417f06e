"""Is there room for prompts on a target? Real images, the plain prompt and an oracle, before any search.

    python scripts/bench/target_room.py TARGET [TARGET ...] --grammar studies/files/endoscopy-words.yaml \
        --generator work/real/sd/pipeline [--real 20] [--images 60]

TARGET is a prepared set of one hospital (`data select`). A small network is trained on --real images a class
of its pool reference, and on these with --images synthetic ones a class: of the plain caption, of captions
with random words (the shares that words have in --whole, the data set that the generator was trained on),
and of an oracle, which says all that is true of other pictures of the target. It is tested on what is left of
the pools reference and validation, so the pool test stays unseen while targets are chosen. Beside these: all
real images that the generator was trained on, used as training images themselves. Room is the oracle minus
the plain caption.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.classifier.engine import REAL_TEST, Arm, View, train_arms
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.network import read_pixels
from evaluation.classifier.results import MAIN
from evaluation.classifier.small_network import SmallNetwork
from evaluation.classifier.summary import Family, summarize
from generators import Generator, ImageStore, fetch, load
from promptopt.formatting.numbers import points
from studies.dataset import Dataset, Record, read_dataset
from studies.grammar import Grammar, load_grammar

Prompts = Mapping[str, Sequence[str]]


def labeled(records: Sequence[Record], data: Dataset, size: int) -> LabeledImages:
    return LabeledImages(
        read_pixels([data.path(r) for r in records], size),
        tuple(r.category for r in records),
        tuple(r.group for r in records),
        tuple(r.center for r in records),
    )


def split(data: Dataset, classes: Sequence[str], real: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Training pictures, and the others of groups that none of them is of."""
    rng = np.random.default_rng(seed)
    train: list[Record] = []
    for name in classes:
        own = data.where(category=name, pool="reference").records
        train += [own[i] for i in rng.permutation(len(own))[:real]]
    used = {record.group for record in train}
    rest = data.where(category=classes, pool=("reference", "validation"))
    return train, [record for record in rest if record.group not in used]


def drawn(
    prompts: Prompts, generator: Generator, store: ImageStore, options: argparse.Namespace
) -> LabeledImages:
    rows = [(name, prompt) for name, own in prompts.items() for prompt in own]
    seeds = [10_000 + i for own in prompts.values() for i in range(len(own))]
    how = {"steps": options.diffusion_steps, "guidance": options.guidance}
    requests = [generator.request(prompt, seed, **how) for (_, prompt), seed in zip(rows, seeds, strict=True)]
    paths = [image.path for image in fetch(store, generator, requests)]
    return LabeledImages.of(
        read_pixels(paths, options.size), [n for n, _ in rows], name="drawn", center="synthetic"
    )


def fitting(generator: Generator, grammar: Grammar, name: str, attributes: Mapping[str, object]) -> str:
    """The caption of all attributes that the generator can read, those of the last slots left out."""
    said = {slot: str(word) for slot, word in attributes.items()}
    while generator.count_tokens(text := grammar.prompt([name], said)) > generator.max_tokens:
        said.popitem()
    return text


def random_words(grammar: Grammar, name: str, whole: Dataset, count: int, seed: int) -> list[str]:
    """Captions whose words are drawn slot by slot, each by its share in the data; half of them unsaid."""
    rng = np.random.default_rng([seed, 5])
    records = whole.where(category=name, pool="reference").records
    texts = []
    for _ in range(count):
        picks = {slot: records[rng.integers(len(records))].attributes.get(slot) for slot in grammar.slots}
        said = {slot: str(word) for slot, word in picks.items() if word and rng.random() < 0.5}
        texts.append(grammar.prompt([name], said))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", type=Path, nargs="+")
    parser.add_argument("--grammar", type=Path, required=True)
    parser.add_argument("--generator", default="embedded")
    parser.add_argument("--whole", type=Path, required=True, help="what the generator was trained on")
    parser.add_argument("--classes", default="polyps,normal,instruments")
    parser.add_argument("--real", type=int, default=20)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--trainings", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--diffusion-steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("work/target-room"))
    options = parser.parse_args()
    grammar, whole, generator = (
        load_grammar(options.grammar),
        read_dataset(options.whole),
        load(options.generator),
    )
    store, classes = ImageStore(options.work / "store"), sorted(options.classes.split(","))
    count, size, seed = options.images, options.size, options.seed
    for folder in options.targets:
        data = read_dataset(folder)
        train, rest = split(data, classes, options.real, seed)
        rng = np.random.default_rng([seed, 7])
        true = {name: [r for r in rest if r.category == name] for name in classes}
        if missing := [name for name, own in true.items() if len(own) < 2]:
            print(f"{folder}: too few pictures of {missing[0]}; left out", flush=True)
            continue
        oracle = {
            name: [
                fitting(generator, grammar, name, own[i].attributes)
                for i in rng.integers(len(own), size=count)
            ]
            for name, own in true.items()
        }
        plain = {name: [grammar.prompt([name], {})] * count for name in classes}
        random = {name: random_words(grammar, name, whole, count, seed) for name in classes}
        own_groups = {r.group for r in rest}
        elsewhere = [
            r
            for r in whole.where(category=classes, pool="reference")
            if r.group not in own_groups and r.group not in {t.group for t in train}
        ]
        synthetic = {
            "baseline": drawn(plain, generator, store, options),
            "random": drawn(random, generator, store, options),
            "oracle": drawn(oracle, generator, store, options),
            "generator's images": labeled(elsewhere, whole, size),
        }
        view = View(
            learner=SmallNetwork(steps=options.steps),
            real=labeled(train, data, size),
            test={REAL_TEST: labeled(rest, data, size)},
            synthetic=synthetic,
        )
        real = Arm(name="real")
        arms = {name: Arm(name=f"real + {name}", synthetic=name) for name in synthetic}
        seeds = range(options.trainings)
        trained = train_arms(
            [view], [real, *arms.values()], classes=classes, seeds=seeds, cache=options.work / "classifiers"
        )
        pairs = [(arm, real) for arm in arms.values()]
        pairs += [(arms["oracle"], arms["baseline"]), (arms["oracle"], arms["random"])]
        rows, compared = summarize(
            trained, view.test, classes=classes, seeds=seeds, families=[Family("room", tuple(pairs))]
        )
        sizes = ", ".join(f"{name} {len(own)}" for name, own in true.items())
        print(f"\n## {folder.name}: tested on {sizes}\n\n| trained on | balanced accuracy |\n| --- | --- |")
        for row in rows:
            print(f"| {row.title} | {points(row.estimates[MAIN], sign='')} |")
        for one in compared:
            print(f"{one.first.title} minus {one.second.title}: {points(one.differences[MAIN].estimate)}")
        print(flush=True)


if __name__ == "__main__":
    main()
