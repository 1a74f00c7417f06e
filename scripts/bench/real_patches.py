"""Generators on real patches: how near to unseen real ones, how well aligned, and is each what it is called?

    python scripts/bench/real_patches.py work/kvasir/data --encoder work/kvasir/clip \
        --generator base=embedded --generator sd=work/kvasir/sd/pipeline \
        --generator dreambooth=embedded+lora:work/kvasir/dreambooth/lora \
        --prompt dreambooth:polyp="a colonoscopy image of ohwx polyp" [--images 200]

Every generator draws as many images of each label, on the same seeds, from the first caption of the label in
the data or from the prompt given for it. Distances are to the real test pool, unseen in training; R->S is a
classifier trained on the real reference pool that reads the generated images' labels. Real reference images,
as many, stand in the last row: what is in reach. A sheet of images a generator is written beside the store.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation import FeatureStore, load_encoder
from evaluation.classifier.arms import five_arms
from evaluation.classifier.images import LabeledImages
from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.estimate import Estimate
from evaluation.metrics.alignment import class_weights, margins
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.memorization import memorization
from evaluation.metrics.mmd import median_bandwidth, mmd
from generators import ImageStore, StoredImage, fetch, load
from promptopt.cli._progress import Bars
from promptopt.formatting.pictures import Tile, contact_sheet
from studies.dataset import Dataset, read_dataset

SHOWN = 10


def pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise SystemExit(f"--{what} {text!r}: write name=value")
        found[name] = value
    return found


def draw(uri: str, prompts: dict[str, str], images: int, store: ImageStore) -> dict[str, list[StoredImage]]:
    generator = load(uri)
    with Bars() as bar:
        count = itertools.count(1)
        return {
            label: fetch(
                store,
                generator,
                [generator.request(prompt, seed) for seed in range(images)],
                on_image=lambda image, made: bar.show(uri[-40:], next(count), images * len(prompts)),
            )
            for label, prompt in prompts.items()
        }


def shown(estimate: Estimate, digits: int = 2, factor: float = 1) -> str:
    if estimate.value is None:
        return "undefined"
    text = f"{factor * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({factor * estimate.low:.{digits}f} to {factor * estimate.high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--generator", action="append", required=True, metavar="NAME=URI")
    parser.add_argument("--prompt", action="append", default=[], metavar="NAME:LABEL=PROMPT")
    parser.add_argument("--images", type=int, default=200, help="of each label")
    parser.add_argument("--work", type=Path, default=Path("work/real-patches"))
    options = parser.parse_args()
    data, encoder, thumbnails = read_dataset(options.data), load_encoder(options.encoder), ThumbnailEncoder()
    store, features = ImageStore(options.work / "store"), FeatureStore(options.work / "features")
    labels = sorted({record.label for record in data})
    captions = {label: data.where(label=label).records[0].text[0] for label in labels}
    weights = class_weights(encoder, {label: [text] for label, text in captions.items()})
    given = pairs(options.prompt, "prompt")

    def pool(name: str) -> tuple[Dataset, np.ndarray]:
        part = data.where(pool=name)
        return part, features.features(encoder, part.paths())

    (reference, seen), (test, unseen) = pool("reference"), pool("test")
    bandwidth = median_bandwidth(unseen)
    small = [features.features(thumbnails, part.paths()) for part in (reference, test)]
    groups = [record.group for record in test]

    def labeled(rows: np.ndarray, names: Sequence[str], own: Sequence[str]) -> LabeledImages:
        return LabeledImages(rows, tuple(names), tuple(own), ("all",) * len(names))

    real = [
        labeled(rows, [record.label for record in part], [record.group for record in part])
        for part, rows in ((reference, seen), (test, unseen))
    ]
    print(
        "| generator | FD | MMD^2 x 1000 | alignment, polyp or other label | R->S accuracy | copies |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    ceiling: Estimate | None = None
    for name, uri in pairs(options.generator, "generator").items():
        prompts = {label: given.get(f"{name}:{label}", text) for label, text in captions.items()}
        drawn = draw(uri, prompts, options.images, store)
        tiles = [
            (prompts[label], [Tile(image.load(), f"seed {image.request.seed}") for image in images[:SHOWN]])
            for label, images in drawn.items()
        ]
        contact_sheet(tiles, options.work / f"{name}.png", tile=128)
        paths = [image.path for images in drawn.values() for image in images]
        names = [label for label, images in drawn.items() for _ in images]
        rows = features.features(encoder, paths)
        own = [f"{name}-{i}" for i in range(len(paths))]
        arms = five_arms(
            *real,
            synthetic_train=labeled(rows[::2], names[::2], own[::2]),  # asked for, though no arm uses it
            synthetic_test=labeled(rows[1::2], names[1::2], own[1::2]),
            arms=("R->R", "R->S"),
        )
        ceiling = arms.row("R->R").estimates["accuracy"]
        aligned = np.concatenate(
            [
                margins(rows[[i for i, n in enumerate(names) if n == label]], weights, target=label)
                for label in labels
            ]
        )
        copies = memorization(features.features(thumbnails, paths), *small, groups=groups)
        cells = [
            shown(frechet_distance(rows, unseen), 1),
            shown(mmd(rows, unseen, bandwidth=bandwidth), 1, 1000),
            shown(Estimate.of_mean(aligned)),
            shown(arms.row("R->S").estimates["accuracy"], 1, 100) + " %",
            shown(copies.share, 1, 100) + " %",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(seen))[: options.images * len(labels)]
    aligned = np.concatenate(
        [
            margins(seen[[i for i in chosen if reference.records[i].label == label]], weights, target=label)
            for label in labels
        ]
    )
    cells = [
        shown(frechet_distance(seen[chosen], unseen), 1),
        shown(mmd(seen[chosen], unseen, bandwidth=bandwidth), 1, 1000),
        shown(Estimate.of_mean(aligned)),
        "R->R: " + (shown(ceiling, 1, 100) if ceiling is not None else "-") + " %",
        "-",
    ]
    print(f"| real, reference pool | {' | '.join(cells)} |")
    print(
        f"\n{options.images} images of each label; {len(test)} unseen real ones; {encoder.uri}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
