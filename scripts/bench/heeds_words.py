"""Does a generator do what words say? Images asked with a word against without it, read off their pixels.

    python scripts/bench/heeds_words.py DATA --grammar studies/files/endoscopy-words.yaml \
        --generator work/real/sd/pipeline [--images 24] [--guidance 3] [--least 60]

DATA is a prepared set with attributes (`data prepare --grammar`). Every word that at least --least pictures
of the pool reference have is asked for in the grammar's own caption, alone, at the same seeds as the plain
caption. A word of the section `measure` is read by its measure of the pixels; any other by a linear probe on
the embedded CLIP's features and the measures, trained on real pictures of the pool reference, if it tells
real held-out pictures with the word from others (AUROC of 0.7 or more). Effects are in standard deviations
of real pictures, with 95 % intervals over seeds; the AUROC of each reader on real held-out pictures stands
beside them.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation import FeatureStore, load_encoder
from evaluation.classifier.probe import fit_probe
from evaluation.inference.paired import compare
from evaluation.metrics.auroc import auroc
from generators import ImageStore, fetch, load
from promptopt.base.images import read_image
from studies.appearance import MEASURES, appearance
from studies.dataset import Dataset, read_dataset
from studies.grammar import Grammar, load_grammar

READABLE = 0.7
Rows = NDArray[np.float64]


def looks(paths: Sequence[Path]) -> Rows:
    """(n, measures) of the pictures."""
    return np.array([list(appearance(read_image(path)).values()) for path in paths])


class Readers:
    """What reads a word off pictures given as measures and features; fitted on real ones."""

    def __init__(self, data: Dataset, grammar: Grammar, measures: Rows, features: Rows) -> None:
        self.pools = np.array([r.pool for r in data])
        self.data, self.measures, self.features = data, measures, features
        self.direct = {
            (one.slot, word): (list(MEASURES).index(name), sign)
            for name, one in grammar.measure.items()
            for word, sign in ((one.low, -1), (one.high, 1))
            if word
        }

    def read(self, slot: str, word: str, of: NDArray[np.bool_], measures: Rows, features: Rows) -> Rows:
        """Values of pictures, in SDs of real ones; ``of``: real pictures of the same category."""
        if (slot, word) in self.direct:
            column, sign = self.direct[slot, word]
            real = self.measures[of, column]
            return np.asarray(sign * (measures[:, column] - real.mean()) / real.std())
        train = of & (self.pools == "reference")
        truth = self.having(slot, word)[train]
        probe = fit_probe(np.hstack([self.measures, self.features])[train], truth, seed=0, strength=0.01)
        real = probe.log_odds(np.hstack([self.measures, self.features])[of & (self.pools != "reference")])
        return np.asarray((probe.log_odds(np.hstack([measures, features])) - real.mean()) / real.std())

    def having(self, slot: str, word: str) -> NDArray[np.bool_]:
        return np.array([r.attributes.get(slot) == word for r in self.data])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--grammar", type=Path, required=True)
    parser.add_argument("--generator", default="embedded")
    parser.add_argument("--category", action="append", help="again for more; default: all in the grammar")
    parser.add_argument("--images", type=int, default=24, help="of every prompt")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--least", type=int, default=60, help="training pictures of a word")
    parser.add_argument("--work", type=Path, default=Path("work/heeds-words"))
    options = parser.parse_args()
    data, grammar = read_dataset(options.data), load_grammar(options.grammar)
    if grammar.captions is None:
        raise SystemExit(f"{options.grammar}: writes no captions, so it cannot say how a word is asked for")
    store, features = ImageStore(options.work / "store"), FeatureStore(options.work / "features")
    encoder, generator = load_encoder("embedded"), load(options.generator)
    settings = {"guidance": options.guidance, "steps": options.steps}
    readers = Readers(data, grammar, looks(data.paths()), features.features(encoder, data.paths()))

    def drawn(prompt: str) -> tuple[Rows, Rows]:
        requests = [generator.request(prompt, seed, **settings) for seed in range(options.images)]
        paths = [image.path for image in fetch(store, generator, requests)]
        return looks(paths), features.features(encoder, paths)

    print("| category | word | pictures | AUROC of its reader | effect in SDs | |\n" + "| --- " * 6 + "|")
    right = clearly = asked = 0
    for category in options.category or grammar.captions.of:
        of = np.array([category in (r.category, r.label) for r in data])
        counts = Counter(
            (slot, word)
            for r in data.where(pool="reference")
            if category in (r.category, r.label)
            for slot, word in r.attributes.items()
        )
        plain = drawn(grammar.prompt([category], {}))
        for (slot, word), count in counts.items():
            if count < options.least or f"{{{slot}}}" not in grammar.captions.of[category]:
                continue
            held_out = of & (readers.pools != "reference")
            real = readers.read(slot, word, of, readers.measures, readers.features)[held_out]
            area = auroc(real, readers.having(slot, word)[held_out]).value or 0.0
            if area < READABLE:
                print(f"| {category} | {word} | {count} | {area:.2f} | cannot be read | |", flush=True)
                continue
            told = drawn(grammar.prompt([category], {slot: word}))
            effect = compare(readers.read(slot, word, of, *told), readers.read(slot, word, of, *plain))
            low, high = effect.low or -np.inf, effect.high or np.inf
            way = "right" if low > 0 else "wrong" if high < 0 else "unclear"
            right, clearly, asked = right + ((effect.value or 0) > 0), clearly + (low > 0), asked + 1
            shown = f"{effect.value:+.2f} ({low:+.2f} to {high:+.2f})"
            print(f"| {category} | {word} | {count} | {area:.2f} | {shown} | {way} |", flush=True)
    print(
        f"\n{right} of {asked} words ({100 * right / max(asked, 1):.0f} %) move their attribute in their "
        f"direction, {clearly} ({100 * clearly / max(asked, 1):.0f} %) with an interval that excludes 0; "
        f"{options.images} images a prompt"
    )


if __name__ == "__main__":
    main()
