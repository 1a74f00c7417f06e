"""Does the embedded generator draw what it is told? Read by the judge, which has seen renderings alone.

    python scripts/bench/embedded_quality.py [--images 300] [--card]

Prints, per category, the share of images of random template prompts whose category the judge names rightly,
and how location words, counts and colors move its reading. --card writes the tables into the model card.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import generators
from evaluation.classifier.judge import Reading, load_judge
from evaluation.estimate import Estimate
from promptopt.space import compile_template
from studies.category import CATEGORIES, load_category
from studies.phantom import CELLS
from studies.phantom.scene import COLORS

CARD = Path(__file__).resolve().parents[2] / "generators" / "embedded" / "sd" / "README.md"
MARK = "<!-- measured by scripts/bench/embedded_quality.py -->"


class Bench:
    """The generator, the judge, and the images between them."""

    def __init__(self, uri: str, judge: str) -> None:
        self.generator = generators.load(uri)
        self.judge = load_judge(judge)

    def draw(self, prompts: Sequence[str], *, first_seed: int) -> list[Image.Image]:
        """One image a prompt, each with a seed of its own."""
        requests = [self.generator.request(p, first_seed + i) for i, p in enumerate(prompts)]
        return list(self.generator.generate(requests))

    def read(self, prompts: Sequence[str], *, first_seed: int) -> Reading:
        return self.judge.read(self.draw(prompts, first_seed=first_seed))


def shown(estimate: Estimate, *, percent: bool = False) -> str:
    scale, digits, unit = (100, 1, " %") if percent else (1, 2, "")
    values = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{scale * v:.{digits}f}" if v is not None else "-" for v in values)
    return f"{value}{unit} ({low} to {high})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def categories(bench: Bench, images: int) -> str:
    names = bench.judge.names["category"]
    rows = []
    for index, name in enumerate((*CATEGORIES, "normal")):
        category = load_category(name)
        space = compile_template(category.template, category.wildcards)
        rng = np.random.default_rng(index)
        row = [name]
        for prompts in (
            [space.render(space.sample(rng)) for _ in range(images)],
            [category.baseline] * images,
        ):
            said = bench.read(prompts, first_seed=10_000 * (index + 1)).category_probabilities.argmax(axis=1)
            right = int((said == names.index(name)).sum())
            row.append(shown(Estimate.of_proportion(right, images), percent=True))
        rows.append(row)
    return table(["category", "random template prompts", "baseline prompt"], rows)


def locations(bench: Bench, images: int) -> str:
    names = bench.judge.names["location"]
    rows = []
    for place, cell in enumerate(CELLS):
        prompt = f"a colonoscopy image of a polyp, located in the {cell}, 1 polyp"
        reading = bench.read([prompt] * images, first_seed=1000 * place).location_probabilities
        where = reading[:, names.index(cell)]
        others = np.delete(reading, names.index(cell), axis=1).mean(axis=1)
        hits = int((reading.argmax(axis=1) == names.index(cell)).sum())
        rows.append(
            [
                cell,
                shown(Estimate.of_proportion(hits, images), percent=True),
                shown(Estimate.of_mean(where)),
                shown(Estimate.of_mean(others)),
                shown(Estimate.of_mean(where - others)),
            ]
        )
    head = ["location word", "judge's first choice", "reading there", "mean of the other eight", "difference"]
    return table(head, rows)


def counts(bench: Bench, images: int) -> str:
    rows = []
    for n in (1, 2, 3):
        prompt = f"a colonoscopy image of a small polyp, {n} polyp{'s' * (n > 1)}"
        reading = bench.read([prompt] * images, first_seed=20_000).count_probabilities
        expected = reading @ np.arange(reading.shape[1])
        exact = int((reading.argmax(axis=1) == n).sum())
        rows.append(
            [
                str(n),
                shown(Estimate.of_mean(expected)),
                shown(Estimate.of_proportion(exact, images), percent=True),
            ]
        )
    return table(["polyps asked for", "judge's expected count", "judge's count is exact"], rows)


def colors(bench: Bench, images: int) -> str:
    names = bench.judge.names["color"]
    readings = {
        color: bench.read(
            [f"a colonoscopy image of a {color} polyp"] * images, first_seed=30_000
        ).color_probabilities
        for color in COLORS
    }
    rows = []
    for color, reading in readings.items():
        index = names.index(color)
        rest = np.mean([other[:, index] for name, other in readings.items() if name != color], axis=0)
        hits = int((reading.argmax(axis=1) == index).sum())
        rows.append(
            [
                color,
                shown(Estimate.of_proportion(hits, images), percent=True),
                shown(Estimate.of_mean(reading[:, index])),
                shown(Estimate.of_mean(rest)),
                shown(Estimate.of_mean(reading[:, index] - rest)),
            ]
        )
    head = ["color word", "judge's first choice", "reading", "reading under the other words", "difference"]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generator", default="embedded")
    parser.add_argument("--judge", default="embedded")
    parser.add_argument("--images", type=int, default=300, help="per category; a quarter of it per word")
    parser.add_argument("--card", action="store_true", help="write the tables into the model card")
    chosen = parser.parse_args()
    bench = Bench(chosen.generator, chosen.judge)
    few = max(8, chosen.images // 4)
    request = bench.generator.request("a", 0)
    text = "\n\n".join(
        [
            MARK,
            "## What the judge reads in its images",
            f"{request.steps} steps of {request.scheduler}, guidance {request.guidance}; intervals are 95 %. "
            f"The judge was trained on renderings alone.",
            f"Category named rightly, {chosen.images} images each:",
            categories(bench, chosen.images),
            f"Location of one polyp, {few} images a word:",
            locations(bench, few),
            f"Count, {few} images a number, the same seeds for all:",
            counts(bench, few),
            f"Color, {few} images a word, the same seeds for all:",
            colors(bench, few),
        ]
    )
    print(text)
    if chosen.card:
        before = CARD.read_text("utf-8").split(MARK)[0].rstrip()
        CARD.write_text(f"{before}\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    main()
