"""Does the gain by influence rank prompts as training the probe again with their images does?

    python scripts/bench/influence.py [--prompts 100] [--images 4] [--real 20] [--validation 60]
    python scripts/bench/influence.py --planted [--dim 512]

Polyps against normal mucosa in drawn scenes of a dim hospital with green boxes; random prompts of the
category polyps, embedded generator and encoder. The probe is trained on the real images alone, or with a
current set: the plain prompts of both classes, 20 images that weigh as 20 or as 100 real ones a class. Each
prompt's images are then added with one weight together (in real images) and the probe is trained again. The
gain by influence is the mean over the same images, as the derivative and as one Newton step at that weight.
The last line trains on synthetic images alone (all prompts against plain mucosa) and leaves each prompt out.
Spearman's correlation over the prompts, with a percentile bootstrap over them.

--planted needs no generator: Gaussian classes, prompts that are off in random directions.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.progress import track
from scipy.stats import rankdata

from evaluation.influence.accuracy_influence import leave_prompts_out, synthetic_probe
from evaluation.influence.probe_gain import ProbeGain, retrained_gain

Rows = np.ndarray
CLASSES = ("normal", "polyp")
PLAIN = ("a colonoscopy image of normal mucosa", "a colonoscopy image of a polyp")
SET = 20
SETTINGS: tuple[tuple[float | None, float], ...] = (
    (None, 1),
    (None, 20),
    (20, 1),
    (20, 20),
    (100, 1),
    (100, 20),
)
"""What the current set weighs a class (None: no set), and what a prompt's images weigh."""


@dataclass(frozen=True)
class World:
    """Features; the sets hold one matrix a class."""

    real: Sequence[Rows]
    validation: Sequence[Rows]
    plain: Sequence[Rows]
    prompts: Sequence[Rows]  # of polyps


def on_images(options: argparse.Namespace) -> World:
    from evaluation.encoders.load import load_encoder
    from generators.loading import load
    from promptopt.space.of_category import category_space
    from studies.category import load_category
    from studies.phantom.render import render
    from studies.phantom.scene import sample_scene

    generator, encoder = (
        load("embedded", device=options.device),
        load_encoder("embedded", device=options.device),
    )
    space, rng = category_space(load_category("polyps")), np.random.default_rng(options.seed)

    def drawn(category: str, count: int) -> Rows:
        scenes = [replace(sample_scene(rng, category=category), light="dim", box=True) for _ in range(count)]
        return encoder.encode_images([render(scene) for scene in scenes])

    def made(prompt: str, count: int, first: int) -> Rows:
        requests = [generator.request(prompt, seed) for seed in range(first, first + count)]
        return encoder.encode_images(list(generator.generate(requests)))

    prompts: dict[str, None] = {}
    while len(prompts) < options.prompts:
        prompts[space.render(space.sample(rng))] = None
    counts = (options.real, options.validation)
    real, validation = ([drawn(category, count) for category in ("normal", "polyps")] for count in counts)
    plain = [made(prompt, SET, 10_000) for prompt in PLAIN]
    return World(real, validation, plain, [made(prompt, options.images, 0) for prompt in track(prompts)])


def planted(options: argparse.Namespace) -> World:
    rng, d = np.random.default_rng(options.seed), options.dim
    centers = rng.normal(size=(2, d)) * 1.6 / np.sqrt(d)
    shift = rng.normal(size=d) / np.sqrt(d)  # what all generated images have in common

    def drawn(count: int) -> list[Rows]:
        return [center + rng.normal(size=(count, d)) for center in centers]

    def prompt() -> Rows:
        offset = rng.normal(size=d) * rng.uniform(0, 3) / np.sqrt(d)
        return centers[1] + shift + offset + 0.5 * rng.normal(size=(options.images, d))

    return World(
        drawn(options.real),
        drawn(options.validation),
        [rows + shift for rows in drawn(SET)],
        [prompt() for _ in range(options.prompts)],
    )


def stacked(parts: Sequence[Rows]) -> tuple[Rows, Rows]:
    return np.concatenate(parts), np.repeat(CLASSES, [len(part) for part in parts])


def correlation(a: Rows, b: Rows, *, seed: int) -> str:
    """Spearman's, with a 95 % percentile bootstrap interval over pairs."""
    rng = np.random.default_rng(seed)

    def of(rows: Rows) -> float:
        return float(np.corrcoef(rankdata(a[rows]), rankdata(b[rows]))[0, 1])

    low, high = np.quantile([of(rng.integers(len(a), size=len(a))) for _ in range(2000)], [0.025, 0.975])
    return f"{of(np.arange(len(a))):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--images", type=int, default=4, help="of a prompt")
    parser.add_argument("--real", type=int, default=20, help="training images of a class")
    parser.add_argument("--validation", type=int, default=60, help="images of a class")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--dim", type=int, default=512, help="of the planted features")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    world = planted(options) if options.planted else on_images(options)
    features, labels = stacked(world.plain)
    bare = ProbeGain.fit(*stacked(world.real), *stacked(world.validation))
    print(f"real alone: loss {bare.loss:.3f}, balanced accuracy {bare.balanced_accuracy:.1%}, l2 {bare.l2:g}")
    print(
        "| current set weighs | prompt weighs | loss before | derivative | Newton step "
        "| ms a prompt: derivative, step, retraining |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for total, weight in SETTINGS:
        probe = bare
        if total is not None:
            probe = ProbeGain.fit(
                *stacked(world.real),
                *stacked(world.validation),
                synthetic_features=features,
                synthetic_labels=labels,
                synthetic_weight=total,
            )
        cells, times = [], []
        brute, seconds = timed(lambda p=probe, w=weight: retrained_gain(p, world.prompts, "polyp", weight=w))
        for size in (0.0, float(weight)):
            values, spent = timed(
                lambda p=probe, w=size: np.array(
                    [p.gains(own, "polyp", weight=w).mean() for own in world.prompts]
                )
            )
            cells.append(correlation(values, brute, seed=options.seed))
            times.append(spent)
        spans = ", ".join(f"{1000 * spent / len(world.prompts):.1f}" for spent in (*times, seconds))
        shown = "no set" if total is None else f"{total:g}"
        print(f"| {shown} | {weight:g} | {probe.loss:.3f} | {cells[0]} | {cells[1]} | {spans} |", flush=True)
    leaving(world, options.seed)


def leaving(world: World, seed: int) -> None:
    """Synthetic to real: the loss without each prompt, exact and to first order."""
    sets = [world.plain[0], *world.prompts]
    names = np.repeat(np.arange(len(sets)) - 1, [len(own) for own in sets])
    x, y = np.concatenate(sets), np.where(names < 0, CLASSES[0], CLASSES[1])
    probe = synthetic_probe(x, y, *stacked(world.validation), synthetic_weight=100.0)
    # the plain mucosa alone shows its class: with two halves, each can be left out
    names[names < 0] -= np.arange(len(world.plain[0])) % 2
    changes = [one for one in leave_prompts_out(probe, names) if one.prompt >= 0]
    loss, predicted = (np.array([getattr(one, key) for one in changes]) for key in ("loss", "predicted"))
    print(f"synthetic alone: loss {probe.loss:.3f}, balanced accuracy {probe.balanced_accuracy:.1%}")
    print(f"leaving a prompt out, exact against first order: {correlation(predicted, loss, seed=seed)}")


def timed(job: Callable[[], Rows]) -> tuple[Rows, float]:
    began = time.perf_counter()
    result = job()
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
