"""Do the classifier's arms order synthetic sets as they should? Phantom against phantom, faults planted.

    python scripts/bench/classifier_arms.py [--real 200] [--synthetic 400] [--seeds 5] [--coverage]

Real: phantom images of seed 1 (trained on: part of the pool `reference`; tested on: the pools `test` and
`validation`, as nothing is selected on either). Synthetic: phantom images of seed 2, of which a share gets
another image's label (class mix) or a Gaussian blur. All images are split into training and test before.
--coverage simulates instead how often the intervals hold the truth where test groups and training seeds
both vary, and how often two equal classifiers differ "significantly"; then the same for the AUROC on real
images that calibrates a CLIP.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import norm

from evaluation import FeatureStore, load_encoder
from evaluation.classifier.arms import five_arms
from evaluation.classifier.folders import ImageFiles, prepared_files
from evaluation.classifier.images import LabeledImages
from evaluation.classifier.results import ArmsResult
from evaluation.estimate import Estimate
from evaluation.inference.bootstrap import GroupBootstrap, SeedScores
from evaluation.inference.intervals import interval_estimate, p_value
from evaluation.metrics.auroc import auroc
from studies.phantom import write_phantom

BLUR = 3.0  # sigma in pixels, of 64
RATIO = 2.0
ARMS = (("R->R", None), ("S->R", None), ("R+S->R", RATIO), ("S->S", None), ("R->S", None))


def shown(estimate: Estimate, *, sign: str = "") -> str:
    if estimate.value is None:
        return "-"
    mark = "" if estimate.status == "ok" else "*"
    ends = (
        ""
        if estimate.low is None
        else f" ({100 * estimate.low:{sign}.1f} to {100 * estimate.high:{sign}.1f})"
    )
    return f"{100 * estimate.value:{sign}.1f}{mark}{ends}"


def change(result: ArmsResult, arm: str, ratio: float | None) -> str:
    difference = result.differences(result.row(arm, ratio=ratio))["accuracy"]
    p = "-" if difference.p_holm is None else f"{difference.p_holm:.4f}"
    return f"{shown(difference.estimate, sign='+')}, p {p}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def mixed(images: LabeledImages, share: float, seed: int) -> LabeledImages:
    """A share of the images, drawn at random, gets the label of another one among them."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(images))[: round(share * len(images))]
    labels = list(images.labels)
    for here, there in zip(chosen, np.roll(chosen, 1), strict=True):
        labels[here] = images.labels[there]
    return LabeledImages(images.inputs, tuple(labels), images.groups, images.centers)


def blurred(images: LabeledImages, soft: np.ndarray, share: float, seed: int) -> LabeledImages:
    """A share of the images in their blurred version (`soft`, row by row)."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(images))[: round(share * len(images))]
    inputs = images.inputs.copy()
    inputs[chosen] = soft[chosen]
    return LabeledImages(inputs, images.labels, images.groups, images.centers)


def blur_files(files: ImageFiles, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for path in files.paths:
        with Image.open(path) as image:
            soft = image.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR))
        paths.append(folder / path.name)
        soft.save(paths[-1], compress_level=1)
    return paths


def arms(work: Path, options: argparse.Namespace) -> None:
    encoder, store = load_encoder("embedded"), FeatureStore(work / "features")
    real = prepared_files(write_phantom(work / "real", images=options.images, seed=1))
    made = prepared_files(write_phantom(work / "made", images=options.synthetic, seed=2))

    def read(files: ImageFiles) -> LabeledImages:
        return files.labeled(store.features(encoder, files.paths))

    reference = real.of_pools(["reference"])
    train = read(reference.take(range(options.real)))
    test = read(real.of_pools(["validation", "test"]))
    clean = read(made)
    soft = store.features(encoder, blur_files(made, work / "soft"))
    sets = {
        "clean": clean,
        "class mix 25 %": mixed(clean, 0.25, 0),
        "class mix 50 %": mixed(clean, 0.5, 0),
        "class mix 100 %": mixed(clean, 1.0, 0),
        "blur 50 %": blurred(clean, soft, 0.5, 0),
        "blur 100 %": blurred(clean, soft, 1.0, 0),
    }
    results: dict[str, ArmsResult] = {}
    for name, images in sets.items():
        first, second = images.split(0.25, seed=0)
        most = min(RATIO, len(first) / len(train))
        if most < RATIO:
            raise SystemExit(
                f"--synthetic: {len(first)} to train on, ratio {RATIO} needs {RATIO * len(train)}"
            )
        results[name] = five_arms(
            train,
            test,
            synthetic_train=first,
            synthetic_test=second,
            seeds=range(options.seeds),
            ratios=(RATIO,),
        )
    one = next(iter(results.values()))
    print(
        f"{len(one.classes)} classes; real: {len(train)} to train on, {len(test)} to test on; synthetic: "
        f"{one.settings['synthetic_train']} to train on, {one.settings['synthetic_test']} to test on; "
        f"{options.seeds} seeds; probe on the embedded encoder. Balanced accuracy in %, 95 % intervals; "
        "* unreliable (a class with fewer than 10 test groups).\n"
    )
    head = ["synthetic set", *(f"{arm} 1:{ratio:g}" if ratio else arm for arm, ratio in ARMS)]
    for metric in ("balanced_accuracy", "accuracy", "ece"):
        print(f"{metric}:\n")
        rows = [
            [name, *(shown(result.row(arm, ratio=ratio).estimates[metric]) for arm, ratio in ARMS)]
            for name, result in results.items()
        ]
        print(table(head, rows) + "\n")
    print("accuracy, difference from R->R, Holm's p:\n")
    rows = [
        [name, *(change(result, arm, ratio) for arm, ratio in ARMS[1:])] for name, result in results.items()
    ]
    print(table([head[0], *head[2:]], rows) + "\n")
    order = [results[name].row("S->R").estimates["accuracy"].value for name in list(sets)[:4]]
    print(f"S->R falls with the share of the class mix: {order == sorted(order, reverse=True)}")
    soft_order = [
        results[n].row("S->R").estimates["accuracy"].value for n in ("clean", "blur 50 %", "blur 100 %")
    ]
    print(f"S->R falls with the share of blur: {soft_order == sorted(soft_order, reverse=True)}")


def coverage(options: argparse.Namespace) -> None:
    """Simulated test sets and training seeds: which intervals hold the truth, and which cannot."""
    rows = []
    for groups, alike, seeds, spread in CASES:
        rng = np.random.default_rng([groups, alike, seeds, round(1000 * spread)])
        names = [f"g{i // alike}" for i in range(groups * alike)]
        draws = GroupBootstrap.draw(names, ["x"] * len(names), resamples=options.resamples, rng=rng)
        hits = dict.fromkeys([*HOW, "difference", "p < 0.05"], 0)
        for _ in range(options.trials):
            hard = np.repeat(rng.random(groups), alike)  # what one classifier reads wrong, others tend to
            one, other = (trained(rng, hard, draws, seeds, spread) for _ in range(2))
            for name, how in HOW.items():
                hits[name] += covers(one, how(one), ACCURACY)
            change = one - other
            variance, freedom = change.spread()
            hits["difference"] += covers(change, (variance, freedom), 0.0, bounds=(-1, 1))
            p = p_value(change.mean, variance, freedom=freedom)
            hits["p < 0.05"] += p is not None and p < 0.05
        shares = [shown(Estimate.of_proportion(count, options.trials)) for count in hits.values()]
        rows.append([f"{groups} of {alike}", str(seeds), f"{spread:g}", *shares])
    print(
        f"Coverage of 95 % intervals in %, {options.trials} simulations of each line; images of a group are"
    )
    print(f"alike; true accuracies vary about {ACCURACY:g} between training seeds.\n")
    print(table(["test groups", "seeds", "SD between seeds", *hits], rows))


ACCURACY = 0.75
CASES = (
    (600, 1, 5, 0.07), (600, 1, 5, 0.02), (600, 1, 5, 0.0), (600, 1, 3, 0.07), (600, 1, 10, 0.07),
    (40, 3, 5, 0.07), (40, 3, 5, 0.02), (16, 3, 5, 0.02),
)  # fmt: skip
HOW: dict[str, Callable[[SeedScores], tuple[float, int]]] = {
    "seeds and groups (used)": lambda s: s.spread(),
    "S seeds drawn of S, freedom of groups": lambda s: (
        of_groups(s) + float(s.values.var()) / len(s.values),
        s.freedom,
    ),
    "seeds pooled": lambda s: (of_groups(s), s.freedom),
}


def of_groups(scores: SeedScores) -> float:
    return float(scores.replicates.mean(axis=1).var(ddof=1))


def trained(
    rng: np.random.Generator, hard: np.ndarray, draws: GroupBootstrap, seeds: int, spread: float
) -> SeedScores:
    """Classifiers with true accuracies of their own, a tenth of the images read each in its own way."""
    chance, own = rng.normal(ACCURACY, spread, size=seeds), rng.random((len(hard), seeds))
    right = np.where(rng.random(own.shape) < 0.9, hard[:, None], own) < chance
    return SeedScores(
        values=right.mean(axis=0),
        replicates=draws.weights @ right / draws.weights.sum(axis=1, keepdims=True),
        groups=draws.groups,
        freedom=draws.freedom,
    )


def auroc_coverage(options: argparse.Namespace) -> None:
    """AUROC of images in groups whose scores share most of their spread; groups of one class, or of both."""
    rows = []
    for n, alike, mixed in ((20, 3, False), (20, 3, True), (60, 3, False), (200, 3, False)):
        for area in (0.5, 0.8, 0.95):
            shift = norm.ppf(area) * np.sqrt(2)
            hits = dict.fromkeys(("groups", "images"), 0)
            for trial in range(options.trials):
                rng = np.random.default_rng([n, mixed, trial, round(100 * area)])
                number = np.repeat(np.arange(n if mixed else 2 * n), 2 * alike if mixed else alike)
                positive = np.tile(np.arange(2 * alike) < alike, n) if mixed else number < n
                own = 0.5 if mixed else 0.8  # a group's share of the variance
                scores = np.sqrt(own) * rng.normal(size=2 * n)[number]
                scores += np.sqrt(1 - own) * rng.normal(size=len(number)) + shift * positive
                groups = [str(i) for i in number]
                for kind, known in (("groups", groups), ("images", None)):
                    found = auroc(scores, positive, groups=known, resamples=options.resamples, seed=trial)
                    hits[kind] += found.low is not None and found.low <= area <= found.high
            shares = [shown(Estimate.of_proportion(hit, options.trials)) for hit in hits.values()]
            rows.append([str(n), "both" if mixed else "one", f"{area:g}", *shares])
    print(
        f"\nCoverage of 95 % intervals of an AUROC in %, {options.trials} draws, 3 alike images of a class:\n"
    )
    head = ["groups of a class", "classes in a group", "true AUROC", "groups resampled", "DeLong, images"]
    print(table(head, rows))


def covers(
    scores: SeedScores, spread: tuple[float, int], truth: float, bounds: tuple[float, float] = (0, 1)
) -> bool:
    variance, freedom = spread
    estimate = interval_estimate(scores.mean, variance, n=1, freedom=freedom, method="bench", bounds=bounds)
    return estimate.low is not None and estimate.low <= truth + 1e-12 and truth - 1e-12 <= estimate.high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1200, help="phantom images the real ones come from")
    parser.add_argument("--real", type=int, default=200, help="real images to train on")
    parser.add_argument("--synthetic", type=int, default=640, help="synthetic images, a quarter to test on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    started = time.process_time()
    if options.coverage:
        coverage(options)
        auroc_coverage(options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            arms(Path(folder), options)
    print(f"\n{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
