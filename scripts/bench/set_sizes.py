"""Overfitting of sets: how near they are to the real images they were fitted to, and to others.

    python scripts/bench/set_sizes.py [--hospital coast] [--prompts 60] [--draws 5]

Random prompts of the category polyps-wide, `--images` each, by the embedded generator. For 20, 40, 100 and
400 real polyps of the hospital, sets of growing size are fitted as a study does, and the number of prompts is
chosen as a study chooses it. Held out: 500 other real images, and fresh images of every prompt. Means of
MMD^2 x 1000 over draws of the real images; `chosen` is the size that was chosen. The last columns say how
much further the chosen size is than the best one on held-out images, in units of the standard error of that
difference over draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from rich.progress import track

from evaluation.encoders.load import load_encoder
from generators.loading import load
from promptopt.scoring.objective import study_bandwidth
from promptopt.search.sets.embeddings import Form, MeanEmbeddings
from promptopt.search.sets.sizes import choose_size
from promptopt.search.sets.weights import Problem
from promptopt.space.of_category import category_space
from studies.category import load_category
from studies.phantom.hospitals import HOSPITALS
from studies.phantom.render import render
from studies.phantom.scene import sample_scene

REALS = (20, 40, 100, 400)
SIZES = (1, 2, 4, 8, 16)
HELD_OUT = 500
FIRST, FRESH = 0, 100_000
"""First seeds of the images that sets are fitted with, and of those that judge them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hospital", default="coast", choices=sorted(HOSPITALS))
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--images", type=int, default=6, help="of a prompt, to fit with")
    parser.add_argument("--fresh", type=int, default=10, help="of a prompt, to judge with")
    parser.add_argument("--draws", type=int, default=5, help="of the real images")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator, encoder = load("embedded"), load_encoder("embedded")
    category, rng = load_category("polyps-wide"), np.random.default_rng(options.seed)
    space = category_space(category)
    prompts: dict[str, None] = {category.baseline: None}
    while len(prompts) < options.prompts + 1:
        prompts[space.render(space.sample(rng))] = None

    def made(prompt: str, count: int, first: int) -> np.ndarray:
        requests = [generator.request(prompt, seed) for seed in range(first, first + count)]
        return encoder.encode_images(list(generator.generate(requests)))

    fitted = {p: made(p, options.images, FIRST) for p in track(prompts, "images to fit with")}
    fresh = {p: made(p, options.fresh, FRESH) for p in track(prompts, "images to judge with")}
    scenes = [
        sample_scene(rng, category="polyps", hospital=HOSPITALS[options.hospital])
        for _ in range(HELD_OUT + options.draws * max(REALS))
    ]
    real = encoder.encode_images([render(scene) for scene in track(scenes, "real images")])
    held, pool = real[:HELD_OUT], real[HELD_OUT:]
    bandwidth = study_bandwidth(held, fitted[category.baseline])
    judge = MeanEmbeddings[str](held, bandwidth=bandwidth)
    for prompt, rows in fresh.items():
        judge.put(prompt, rows)
    truth = judge.form()
    plain = truth.mmd(np.eye(len(prompts))[0])
    print(f"{options.hospital}: baseline {1000 * plain:.0f} to held-out images")
    print(
        "| real images | "
        + " | ".join(f"{n} fitted, held out" for n in SIZES)
        + " | chosen | chosen - best |"
    )
    for count in REALS:
        rows: dict[str, list[tuple[float, float]]] = {}
        sizes = []
        for draw in range(options.draws):
            seen = pool[draw * max(REALS) : draw * max(REALS) + count]
            own, size = one_fit(seen, fitted, truth, bandwidth=bandwidth, seed=draw)
            sizes.append(size)
            for name, pair in own.items():
                rows.setdefault(name, []).append(pair)
        means = {name: 1000 * np.array(pairs) for name, pairs in rows.items()}
        best = min((str(n) for n in SIZES), key=lambda name: float(means[name][:, 1].mean()))
        gaps = means["chosen"][:, 1] - means[best][:, 1]
        error = float(gaps.std(ddof=1)) / np.sqrt(len(gaps))
        cells = [f"{m[:, 0].mean():.0f}, {m[:, 1].mean():.0f}" for m in means.values()]
        gap = f"{gaps.mean():+.1f} = {gaps.mean() / max(error, 1e-9):+.1f} SE"
        print(f"| {count} | {' | '.join(cells)} ({np.mean(sizes):.1f} prompts) | {gap} |", flush=True)


def one_fit(
    seen: np.ndarray, fitted: Mapping[str, np.ndarray], truth: Form, *, bandwidth: float, seed: int
) -> tuple[dict[str, tuple[float, float]], int]:
    """Fitted and held-out MMD^2 of each size, and of the chosen one; the chosen size."""
    embeddings = MeanEmbeddings[str](seen, bandwidth=bandwidth)
    for prompt, rows in fitted.items():
        embeddings.put(prompt, rows)
    form = embeddings.form()
    problem = Problem.of(form)
    path = problem.path(max(SIZES))
    size = choose_size(form, problem, most=max(SIZES), seed=seed).chosen
    chosen = problem.without_crumbs(np.flatnonzero(path[min(size, len(path)) - 1]).tolist())
    found = {str(n): path[min(n, len(path)) - 1] for n in SIZES} | {"chosen": chosen}
    return {name: (form.mmd(w), truth.mmd(w)) for name, w in found.items()}, int((chosen > 0).sum())


if __name__ == "__main__":
    main()
