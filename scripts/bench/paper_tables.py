"""The paper's tables 2 to 4 and figures 18 and 19 on a prepared set: generators, categories, two centers.

    python scripts/bench/paper_tables.py DATA OUT --single CENTER --encoder timm:NAME@FILE \
        --generator clip=embedded ... [--words dreambooth:"a polyp=ohwx polyp"] [--limit 200]

DATA has two centers (`data select --rest`). OUT is what `compare-generators` writes: a table each for the
single center, the other one and both, charts with intervals, samples and the images nearest to training
images. Printed as well: what the organizers' scorer of 2024 calls FID and Inception score, to the letter
(pixels refilled, not resized; distances between 1000-way softmax rows, by --encoder's network), and the same
corrected (pictures resized, pooled features), for each generator, center and category.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation import load_encoder
from evaluation.challenge import gi2024
from evaluation.features.image_set import ImageSet
from promptopt.base.images import read_image
from promptopt.comparison.output import write_comparison
from promptopt.comparison.run import REAL, Contender, compare_generators
from promptopt.study.checks import fixed_texts
from promptopt.synthesis.plan import Sampling
from studies.category import load_category
from studies.dataset import read_dataset

Rows = NDArray[np.float64]


class Scored:
    """Softmax rows of pictures as the script feeds them, and features of the pictures as they are."""

    def __init__(self, encoder: str) -> None:
        self.network = load_encoder(encoder)
        if not hasattr(self.network, "probabilities"):
            raise SystemExit(f"{encoder}: has no classes; give a network that sorts images, timm:NAME@FILE")

    def faithful(self, images: ImageSet) -> Rows:
        refilled = [
            Image.fromarray(np.rint((gi2024.preprocess(read_image(path)) + 1) * 127.5).astype(np.uint8))
            for path in images.paths
        ]
        return np.asarray(self.network.probabilities(self.network.encode_images(refilled)))

    def corrected(self, images: ImageSet) -> tuple[Rows, Rows]:
        rows = self.network.encode_images([read_image(path) for path in images.paths])
        return np.asarray(rows, dtype=np.float64), np.asarray(self.network.probabilities(rows))


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def rows_of(images: ImageSet, center: str | None, category: str | None) -> NDArray[np.intp]:
    kept = np.arange(len(images))
    for key, value in (("center", center), ("category", category)):
        if value is not None:
            kept = np.intersect1d(kept, images.rows(key, value))
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--single", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--generator", action="append", required=True, metavar="NAME=URI")
    parser.add_argument("--words", action="append", default=[], metavar="NAME:PHRASE=OWN")
    parser.add_argument("--texts", type=Path, action="append", help="category files, for the alignment")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--store", type=Path, default=Path("work/paper-tables"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    words: dict[str, dict[str, str]] = {}
    for one in options.words:
        name, _, told = one.partition(":")
        phrase, _, own = told.partition("=")
        words.setdefault(name, {})[phrase] = own
    sampling = Sampling(steps=options.steps, guidance=options.guidance)
    contenders = [
        Contender(name=name, generator=uri, sampling=sampling, words=words.get(name, {}))
        for name, _, uri in (one.partition("=") for one in options.generator)
    ]
    data = read_dataset(options.data)
    categories = [load_category(file) for file in options.texts or ()]
    compared = compare_generators(
        data,
        contenders,
        options.out,
        encoders=[load_encoder(options.encoder)],
        texts={category.name: fixed_texts(category) for category in categories},
        store=options.store,
        single=options.single,
        limit=options.limit,
        seed=options.seed,
    )
    write_comparison(compared, options.out)
    print("| generator | images | metric | value |\n| --- | --- | --- | --- |")
    for score in compared.of():
        if score.estimate.value is not None:
            value, low, high = score.estimate.value, score.estimate.low, score.estimate.high
            interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
            print(f"| {score.generator} | {score.scope} | {score.name} | {value:.3g}{interval} |")

    scored = Scored(options.encoder)
    sets = [(REAL, compared.real), *((made.name, made.images) for made in compared.made)]
    known = {name: (scored.faithful(images), *scored.corrected(images)) for name, images in sets}
    centers = [None, *sorted(set(compared.real.columns.get("center", ())))]
    print(
        "\n| generator | center | category | images | 2024 'FID' | corrected | 2024 IS | corrected |\n"
        + "| --- " * 8
        + "|"
    )
    for name, images in sets[1:]:
        for center in centers:
            for category in (None, *sorted(set(compared.real.columns["category"]))):
                real, own = rows_of(compared.real, center, category), rows_of(images, center, category)
                if min(len(real), len(own)) < 2:
                    continue
                (shown, pooled, shares), (softmax, features, _) = known[name], known[REAL]
                wrong = gi2024.frechet(softmax[real], shown[own]).value
                right = gi2024.frechet(features[real], pooled[own], corrected=True).value
                said = gi2024.inception_score(shown[own]).average
                mended = gi2024.inception_score(shares[own], corrected=True).average
                print(
                    f"| {name} | {center or 'both'} | {category or 'all'} | {len(own)} | {number(wrong)} | "
                    f"{number(right)} | {number(said)} | {number(mended)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
