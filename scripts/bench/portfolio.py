"""A portfolio of prompts against the single best one and equal shares, on images it was not fitted to.

    python scripts/bench/portfolio.py [--study FILE ...] [--prompts 12] [--images 64] [--size 4]
    python scripts/bench/portfolio.py --planted [--repeats 40]

For each study file (the three quickstarts unless given): the baseline and random prompts of its template are
drawn on the same seeds. Weights, the single best prompt and the top ones are all chosen by the same thing,
the MMD^2 of every second image to the validation pool; all are then compared on the other images with the
test pool. Differences below 0 are in favor of the portfolio for MMD^2 and FD, above 0 for the accuracy.

--planted needs no generator: prompts and reals are Gaussians whose true MMD^2 is known from many draws, so
that the effect of `caution` and of the least share is seen. Scenes: `shifted` (six prompts off in different
directions), `equal` (six times the same), `modes` (reals 70 to 30 of two modes, two of six prompts for each,
two like nothing real), `narrow` (each prompt covers a part).
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore
from evaluation.metrics.alignment import class_weights, margins
from generators.fetching import fetch
from generators.store import ImageStore
from promptopt.cli._progress import Bars
from promptopt.config.study_file import StudyConfig, load_study
from promptopt.portfolio.compare import compare_mixtures
from promptopt.portfolio.fit import CAUTION, LEAST_SHARE, Portfolio
from promptopt.portfolio.mixture import mixture_form
from promptopt.scoring.objective import RealPool, study_bandwidth
from promptopt.space import Candidate
from promptopt.study.setup import Setup, prepare

FILES = Path(__file__).resolve().parents[2] / "studies" / "files"
METRICS = (
    ("mmd", "MMD^2 x 1000", 1000, 1),
    ("frechet", "FD", 1, 2),
    ("synthetic_to_real", "S->R, %", 100, 1),
)
Rows = np.ndarray


def shown(estimate: Estimate, factor: float, digits: int) -> str:
    if estimate.value is None:
        return "undefined"
    text = f"{factor * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({factor * estimate.low:.{digits}f} to {factor * estimate.high:.{digits}f})"


def drawn_prompts(setup: Setup, count: int) -> list[str]:
    rng = np.random.default_rng([setup.config.seed, 77])
    found = {setup.category.baseline: None}
    while len(found) < min(count + 1, setup.space.size):
        found[setup.space.render(setup.space.sample(rng))] = None
    return list(found)


def on_images(config: StudyConfig, options: argparse.Namespace) -> None:
    store = options.work / "store"
    setup = prepare(config.override({"confirm.images": options.images}), store=store)
    images, cache = ImageStore(store / "images"), FeatureStore(store / "features")
    prompts = drawn_prompts(setup, options.prompts)
    features: dict[str, Rows] = {}
    with Bars() as bar:
        count = itertools.count(1)
        for prompt in prompts:
            made = fetch(
                images,
                setup.generator,
                [setup.request(Candidate(prompt), seed) for seed in setup.panel.confirmation],
                on_image=lambda image, generated: bar.show(
                    config.name, next(count), len(prompts) * options.images
                ),
            )
            features[prompt] = cache.features(setup.encoder, [image.path for image in made])

    def pool(name: str) -> RealPool:
        parts = (part.where(pool=name) for part in (setup.positives, setup.negatives))
        return RealPool(*(cache.features(setup.encoder, part.paths()) for part in parts))

    reference, validation, test = pool("reference"), pool("validation"), pool("test")
    fitted = {prompt: rows[::2] for prompt, rows in features.items()}
    weights = class_weights(setup.encoder, setup.texts)
    aligned = {prompt: margins(rows, weights, target=setup.category.name) for prompt, rows in fitted.items()}
    plain = aligned[setup.category.baseline]
    width = study_bandwidth(reference.positives, fitted[setup.category.baseline])
    portfolio = Portfolio.fit(
        fitted,
        validation.positives,
        size=options.size,
        bandwidth=width,
        min_distance=config.portfolio.min_distance,
        alignment={prompt: float(own.mean()) for prompt, own in aligned.items()},
        alignment_floor=float(plain.mean() - plain.std(ddof=1)),
    )
    form = mixture_form(fitted, validation.positives, bandwidth=width)
    ranked = sorted(prompts, key=lambda prompt: form.mmd(np.eye(len(prompts))[prompts.index(prompt)]))
    top = ranked[: options.size]
    found = compare_mixtures(
        {
            "portfolio": portfolio.weights,
            "single best": {ranked[0]: 1.0},
            f"uniform top {len(top)}": {prompt: 1 / len(top) for prompt in top},
            "baseline": {setup.category.baseline: 1.0},
        },
        {prompt: rows[1::2] for prompt, rows in features.items()},
        held_out=test,
        training_negatives=reference.negatives,
        bandwidth=width,
        seed=config.seed,
    )
    shares = ", ".join(f"{weight:.2f} {prompt!r}" for prompt, weight in portfolio.weights.items())
    print(f"{config.name}: {shares}; left out: {len(portfolio.left_out)}", file=sys.stderr)
    for name, estimates in found.estimates.items():
        gaps = found.differences.get(name)
        cells = [shown(estimates[metric], factor, digits) for metric, _, factor, digits in METRICS]
        cells += ["" if gaps is None else shown(gaps[m], factor, digits) for m, _, factor, digits in METRICS]
        print(f"| {config.name} | {name} | {' | '.join(cells)} |", flush=True)


Scene = tuple[Callable[[int], Rows], list[Callable[[Rows], Rows]]]
SCENES = ("shifted", "equal", "modes", "narrow")
DIM = 16


def scene(name: str, rng: np.random.Generator) -> Scene:
    """The reals by count, and each prompt's images as a function of what its seeds draw."""
    centers = 0.9 * rng.normal(size=(3, DIM))
    shift, spread = {"shifted": (0.25, 1.0), "equal": (0.0, 1.0), "modes": (0.2, 1.0), "narrow": (0.5, 0.7)}[
        name
    ]
    share = 0.7 if name == "modes" else 1.0
    common = 0.2 * rng.normal(size=DIM) if name == "equal" else 0.0

    def real(n: int) -> Rows:
        first = rng.random(n) < share
        return np.where(first[:, None], centers[0], centers[1]) + rng.normal(size=(n, DIM))

    def prompt(place: int) -> Callable[[Rows], Rows]:
        own = centers[place % 3 if name == "modes" else 0] + common + shift * rng.normal(size=DIM)
        return lambda draws: own + spread * draws

    return real, [prompt(i) for i in range(6)]


def on_planted(options: argparse.Namespace) -> None:
    rules = [(c, LEAST_SHARE) for c in (1.0, 2.0, 4.0, 8.0)] + [(CAUTION, 0.0)]
    titles = [f"caution {c:g}" + ("" if least else ", no least share") for c, least in rules]
    head = ["scene", "images a prompt", "single best", "uniform, all six", *titles]
    print("True MMD^2 x 1000 to the reals, mean over repeats; four prompts at most of six\n")
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for name in SCENES:
        for n in (8, 16, 32):
            rng = np.random.default_rng([options.seed, SCENES.index(name), n])
            sums = np.zeros(2 + len(rules))
            for _ in range(options.repeats):
                sums += planted_losses(name, n, rules, rng)
            means = [f"{1000 * total / options.repeats:.1f}" for total in sums]
            print(f"| {name} | {n} | {' | '.join(means)} |", flush=True)


def planted_losses(name: str, n: int, rules: list[tuple[float, float]], rng: np.random.Generator) -> Rows:
    real, prompts = scene(name, rng)
    shared, width = rng.normal(size=(n, DIM)), 1.1 * float(np.sqrt(2 * DIM))

    def own() -> Rows:  # half of what a seed draws is common to the prompts
        return np.sqrt(0.5) * (shared + rng.normal(size=(n, DIM)))

    features = {str(i): make(own()) for i, make in enumerate(prompts)}
    many = {str(i): make(rng.normal(size=(400, DIM))) for i, make in enumerate(prompts)}
    truth = mixture_form(many, real(400), bandwidth=width, same_seeds=False)
    unseen = real(100)
    form = mixture_form(features, unseen, bandwidth=width)
    best = min(range(6), key=lambda i: form.mmd(np.eye(6)[i]))
    losses = [truth.mmd(np.eye(6)[best]), truth.mmd(np.full(6, 1 / 6))]
    for caution, least in rules:
        found = Portfolio.fit(features, unseen, bandwidth=width, caution=caution, min_share=least)
        losses.append(truth.mmd([found.weights.get(prompt, 0.0) for prompt in features]))
    return np.array(losses)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, action="append")
    parser.add_argument("--prompts", type=int, default=12, help="random ones, beside the baseline")
    parser.add_argument("--images", type=int, default=64, help="of each prompt; half to fit, half to compare")
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--work", type=Path, default=Path("work/portfolio"))
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of --planted")
    options = parser.parse_args()
    if options.planted:
        on_planted(options)
        return
    (options.work / "store").mkdir(parents=True, exist_ok=True)
    names = [title for _, title, _, _ in METRICS]
    head = ["study", "mixture", *names, *(f"portfolio minus it: {name}" for name in names)]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    own = [FILES / f"quickstart-{name}.yaml" for name in ("instruments", "landmarks", "polyps")]
    for path in options.study or own:
        on_images(load_study(path), options)


if __name__ == "__main__":
    main()
