"""How often a study claims that its set is better where no prompt can be (A/A).

    python scripts/bench/set_claims.py [--studies 200] [--first 0] [--classifier]

Each study has a world of its own: two classes of colored squares that are hard to tell apart, real images
from another distribution than the generator's, and a generator that does not read its prompt: images of
every prompt, the baseline included, are independent draws from one distribution for each class. Whole studies
run (search, choice of the set, fresh seeds, test pool; `--classifier`: with trained classifiers too), and the
claims that prompts.json makes are counted. `--first` skips studies, so that processes can share the work.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.estimate import Estimate
from generators.request import ImageRequest
from promptopt.study.api import Study
from promptopt.study.sets.run import SetResult
from studies.dataset import Record, write_metadata
from tests.promptopt.fakes import SIDE, ColorEncoder, SquareGenerator
from tests.promptopt.set_run import set_study

TINT = {"red": np.array([6.0, 0.0, -6.0]), "blue": np.array([-6.0, 0.0, 6.0])}


def picture(label: str, rng: np.random.Generator, *, light: float = 0.0) -> Image.Image:
    """A square of a class's tint, drowned in noise; `light` is added to every value."""
    pixels = np.full((SIDE, SIDE, 3), rng.uniform(60, 190) + light)
    size = int(rng.integers(4, 12))
    low = (SIDE - size) // 2
    pixels[low : low + size, low : low + size] += TINT[label]
    pixels += rng.normal(0, 25, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@dataclass
class Deaf(SquareGenerator):
    """Its images depend on the prompt's class alone, and on chance."""

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for request in requests:
            self.made.append(request)
            digest = hashlib.sha256(f"{self.fingerprint}|{request.prompt}|{request.seed}".encode()).digest()
            label = next(name for name in TINT if name in request.prompt)
            yield picture(label, np.random.default_rng(list(digest)))


def real_images(folder: Path, seed: int) -> Path:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng([seed, 1])
    records = []
    for label in TINT:
        for pool, count in (("reference", 20), ("validation", 20), ("test", 100)):
            for i in range(count):
                name = f"images/{label}-{pool}-{i:03}.png"
                picture(label, rng, light=30.0).save(folder / name)
                records.append(
                    Record(
                        file_name=name,
                        text=(f"a {label} square",),
                        category=label,
                        label=label,
                        center="a",
                        group=name,
                        pool=pool,  # type: ignore[arg-type]
                    )
                )
    write_metadata(folder, records)
    return folder


def one_study(seed: int, *, classifier: bool) -> SetResult:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        content = set_study(
            real_images(root / "data", seed),
            seed=seed,
            allow_weak_encoder=True,
            set={"budget": 64, "images": 4, "prompts": 8, "tolerance": None},
            confirm={
                "images": 60,
                "classifier": {"seeds": 3, "steps": 40, "images": 40} if classifier else None,
            },
        )
        digest = hashlib.sha256(str(seed).encode()).hexdigest()
        result = Study(
            content,
            generator=Deaf(fingerprint=digest),
            encoder=ColorEncoder(),
            runs=root / "runs",
            store=root / "store",
        ).run()
        assert isinstance(result, SetResult)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--classifier", action="store_true", help="train classifiers too")
    options = parser.parse_args()
    claims: Counter[str] = Counter()
    accuracies: list[float] = []
    for seed in range(options.first, options.first + options.studies):
        sets = one_study(seed, classifier=options.classifier).sets
        compared = [*(c for entry in sets.classes for c in entry.comparisons), *sets.comparisons]
        own = {
            f"set {c.verdict} than {c.second}, {c.metric}"
            for c in compared
            if c.first == "set" and c.verdict != "unclear" and c.second != "real"
        }
        own |= (
            {"set better than the baseline, by any measure"}
            if any((c.first, c.second, c.verdict) == ("set", "baseline", "better") for c in compared)
            else set()
        )
        own |= (
            {"set better than anything, by any measure"}
            if any("set better" in name for name in own)
            else set()
        )
        claims.update(own)
        if sets.accuracy:
            accuracies.append(100 * (sets.accuracy["baseline"].value or 0))
    n = options.studies
    print(
        f"{n} studies in which all prompts are equal"
        + (
            f"; balanced accuracy with the baseline's images {np.mean(accuracies):.1f} %"
            if accuracies
            else ""
        )
    )
    for name in sorted(
        {*claims, "set better than the baseline, by any measure", "set better than anything, by any measure"}
    ):
        share = Estimate.of_proportion(claims[name], n)
        print(
            f"  {name}: {claims[name]} of {n}, {100 * (share.value or 0):.1f} % "
            f"({100 * (share.low or 0):.1f} to {100 * (share.high or 0):.1f})"
        )


if __name__ == "__main__":
    main()
