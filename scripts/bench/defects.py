"""Which metric notices that images got worse, and from how many on? On real images, half against half.

    python scripts/bench/defects.py DATA [--sizes 16 32 ...] [--repeats 100] [--encoder embedded]

DATA is a prepared data set with the categories polyps and normal (`promptopt data prepare medvqa-gi-2024`).
Each repeat shuffles the groups of near-duplicates and draws three disjoint sets of real images: a reference
of 500, n sound images, and n that get one defect. A cell is the share of repeats in which the defective set
scores worse than the sound one (ties count half): 0.5 is guessing, below it the metric prefers the defect.
Features are computed once and kept in --store.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from evaluation import (
    FeatureStore,
    diversity,
    duplicates,
    frechet_distance,
    kid,
    load_encoder,
    median_bandwidth,
    mmd_contributions,
)
from evaluation.encoders.base import Encoder
from evaluation.estimate import Estimate
from studies.dataset import Dataset, read_dataset

REFERENCE = 500
POLYPS = 0.8  # share in the defective mix; about 0.56 in the data
FEW = 4  # a set collapsed to copies has n / FEW different images
NEAR = 0.05  # of a feature's SD: how far a near-copy lies from its original
Rows = NDArray[np.float64]


def blurred(image: Image.Image) -> Image.Image:
    """Gaussian blur, radius 1 % of the width."""
    return image.filter(ImageFilter.GaussianBlur(image.width / 100))


def shifted(image: Image.Image) -> Image.Image:
    """Red 10 % down, blue 10 % up."""
    pixels = np.asarray(image, dtype=np.float32) * np.array([0.9, 1.0, 1.1], dtype=np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


PIXELS = {"blur": blurred, "color shift": shifted}


def features_of(data: Dataset, encoder: Encoder, folder: Path) -> dict[str, Rows]:
    """Features of the images as they are and with each defect of pixels; encoded once."""
    store = FeatureStore(folder / "features")
    found = {"sound": store.features(encoder, data.paths()).astype(np.float64)}
    for name, change in PIXELS.items():
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        files = [place / f"{i}.png" for i in range(len(data))]
        for path, file in zip(data.paths(), files, strict=True):
            if not file.exists():
                partial = file.with_suffix(".part")
                with Image.open(path) as image:
                    change(image.convert("RGB")).save(partial, format="PNG")
                partial.replace(file)  # whole or not at all: the bench may be stopped and go on
        found[name] = store.features(encoder, files).astype(np.float64)
    return found


class Draws:
    """Disjoint draws of whole groups, polyps and normal patches in the data's own mix."""

    def __init__(self, data: Dataset, seed: int) -> None:
        self.groups = np.array([record.group for record in data])
        self.polyp = np.array([record.category == "polyps" for record in data])
        self.share = float(self.polyp.mean())
        self.rng = np.random.default_rng(seed)

    def draw(self, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Reference, sound, defective and defectively mixed; the first three and the fourth share no group.

        The mixed set differs from the defective one only in normal patches exchanged for polyps.
        """
        groups = self.rng.permutation(np.unique(self.groups))
        rank = {group: i for i, group in enumerate(groups)}
        order = np.argsort([rank[group] for group in self.groups], kind="stable")
        most = round(n * POLYPS)
        sizes = ((REFERENCE, self.share), (n, self.share))
        taken: list[NDArray[np.intp]] = []
        for size, share in sizes:
            polyps = round(size * share)
            rows = self._take(order, polyps, size - polyps)
            taken.append(rows)
            used = np.isin(self.groups[order], self.groups[rows])
            order = order[~used]
        usual = round(n * self.share)
        rest = self._take(order, most, n - usual)
        polyps_of, normal = rest[:most], rest[most:]
        bad = np.concatenate([polyps_of[:usual], normal])
        mixed = np.concatenate([polyps_of, normal[: n - most]])
        return taken[0], taken[1], bad, mixed

    def _take(self, order: NDArray[np.intp], polyps: int, normal: int) -> NDArray[np.intp]:
        """The first images of each kind in this order, polyps before the others."""
        parts = []
        for kind, wanted in ((self.polyp, polyps), (~self.polyp, normal)):
            have = order[kind[order]]
            if wanted > len(have):
                raise SystemExit(f"{wanted} images wanted, {len(have)} there; give smaller --sizes")
            parts.append(have[:wanted])
        return np.concatenate(parts)


def scorers(
    reference: Rows, bandwidth: float, groups: Sequence[str] | None = None
) -> dict[str, Callable[[Rows], float]]:
    """Metrics of a set against the reference, turned so that higher is worse."""
    axes = np.linalg.svd(reference - reference.mean(axis=0), full_matrices=False)[2][:8].T

    def value(estimate: Estimate) -> float:
        assert estimate.value is not None
        return estimate.value

    return {
        "FD": lambda x: value(frechet_distance(x, reference)),
        "FD, 8 axes": lambda x: value(frechet_distance(x @ axes, reference @ axes)),
        "KID": lambda x: value(kid(x, reference)),
        # MMD² without the reference's own term, which is the same for all sets that are compared
        "RBF-MMD": lambda x: float(mmd_contributions(x, reference, bandwidth=bandwidth).mean()),
        "diversity": lambda x: -value(diversity(x)),
        "duplicates": lambda x: value(duplicates(x, reference, groups=groups).share),
    }


def run(draws: Draws, features: dict[str, Rows], n: int, repeats: int) -> dict[str, dict[str, float]]:
    """defect -> metric -> share of repeats in which the defect scores worse."""
    worse: dict[str, dict[str, float]] = {}
    sound = features["sound"]
    for _ in range(repeats):
        reference, good, bad, mixed = draws.draw(n)
        few = np.resize(draws.rng.permutation(bad)[: n // FEW], n)
        spread = sound[reference].std(axis=0)
        sets = {
            "none": sound[bad],
            "class mix": sound[mixed],
            **{name: features[name][bad] for name in PIXELS},
            "copies": sound[few],
            "near-copies": sound[few] + NEAR * spread * draws.rng.normal(size=sound[few].shape),
            "variance x 0.8": shrunk(sound[bad], sound[reference]),
        }
        metrics = scorers(sound[reference], median_bandwidth(sound[reference]), list(draws.groups[reference]))
        for metric, score in metrics.items():
            baseline = score(sound[good])
            for defect, rows in sets.items():
                found = score(rows)
                cell = worse.setdefault(defect, {})
                cell[metric] = (
                    cell.get(metric, 0.0) + ((found > baseline) + 0.5 * (found == baseline)) / repeats
                )
    return worse


def shrunk(rows: Rows, reference: Rows) -> Rows:
    """Features drawn in toward the reference's mean: collapse without copies, made in feature space."""
    center = reference.mean(axis=0)
    return center + np.sqrt(0.8) * (rows - center)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def costs(encoder: Any, data: Dataset, features: dict[str, Rows]) -> str:
    """Batch sizes, and the time of scoring 32 images beside the encoder's."""
    images = []
    for path in data.paths()[:32]:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    encoder.encode_images(images[:8])  # what is done once does not count
    start = time.process_time()
    together = encoder.encode_images(images)
    encoding = time.process_time() - start
    usual = encoder.batch_size
    gaps = []
    for size in (1, 3, 32):
        encoder.batch_size = size
        gaps.append((size, float(np.abs(encoder.encode_images(images) - together).max())))
    encoder.batch_size = usual
    reference = features["sound"][-REFERENCE:]
    rows = together.astype(np.float64)
    for _ in range(2):  # the first imports what SciPy needs
        start = time.process_time()
        for score in scorers(reference, median_bandwidth(reference)).values():
            score(rows)
        scoring = time.process_time() - start
    scale = float(np.abs(together).max())
    shown = ", ".join(f"batch of {size}: {gap:.2g}" for size, gap in gaps)
    return (
        f"Largest change of a feature against batches of {usual} (largest feature {scale:.3g}): {shown}.\n"
        f"All metrics of the table on 32 images against {REFERENCE}: {scoring:.3f} s of CPU "
        f"time, {scoring / encoding:.2f} of the encoder's {encoding:.3f} s in the same run."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--store", type=Path, default=Path("store/defects"))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    data = read_dataset(chosen.data)
    encoder = load_encoder(chosen.encoder)
    features = features_of(data, encoder, chosen.store)
    print(costs(encoder, data, features), flush=True)
    if not chosen.sizes:
        return
    half = 1.96 * np.sqrt(0.25 / chosen.repeats)
    print(
        f"\nChance that the defect scores worse than none, {chosen.repeats} repeats (+- {half:.2f} at 0.5), "
        f"encoder {encoder.uri}:\n"
    )
    for number, n in enumerate(chosen.sizes):  # a size at a time, so that what is done is seen
        found = run(Draws(data, chosen.seed + n), features, n, chosen.repeats)
        metrics = list(found["none"])
        rows = [[str(n), defect, *(f"{cell[m]:.2f}" for m in metrics)] for defect, cell in found.items()]
        lines = table(["n", "defect", *metrics], rows).split("\n")
        print("\n".join(lines if number == 0 else lines[2:]), flush=True)


if __name__ == "__main__":
    main()
