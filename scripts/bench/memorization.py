"""Are planted near-copies found among generated images, and how often is a real unseen image called one?

    python scripts/bench/memorization.py DATA [--copies 150] [--seed 0] [--sheet pairs.png]

DATA is a prepared data set (promptopt data prepare). Training images are its reference pool, held-out ones
its validation pool. Near-copies are changed reference images; the false alarms are counted on the test pool,
whose images are neither. Printed: the share flagged, with Wilson's interval, and in brackets the share whose
nearest training image is the right one.
"""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from evaluation import load_encoder, memorization
from evaluation.encoders.base import Encoder
from evaluation.encoders.thumbnail import ThumbnailEncoder, copy_views
from evaluation.estimate import Estimate
from promptopt.formatting.copies import pairs_sheet
from studies.dataset import Dataset, read_dataset

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def crop(share: float) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        w, h = round(image.width * share), round(image.height * share)
        x, y = rng.integers(0, image.width - w + 1), rng.integers(0, image.height - h + 1)
        return image.crop((x, y, x + w, y + h)).resize(image.size, Image.Resampling.BICUBIC)

    return change


def noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, 12, size=(image.height, image.width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=20)
    return Image.open(buffer).convert("RGB")


def brighter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(image) * 1.15 + 8, 0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "as it is": lambda image, rng: image,
    "crop to 90 %": crop(0.9),
    "crop to 80 %": crop(0.8),
    "crop to 70 %": crop(0.7),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "noise, SD 12 of 255": noise,
    "JPEG, quality 20": jpeg,
    "blur, radius 2": lambda image, rng: image.filter(ImageFilter.GaussianBlur(2)),
    "brighter by 15 %": brighter,
    "crop to 85 %, mirrored, noise, JPEG": lambda image, rng: jpeg(
        noise(ImageOps.mirror(crop(0.85)(image, rng)), rng), rng
    ),
}


def pictures(data: Dataset) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in data.paths()]


def mirrored(image: Image.Image) -> list[Image.Image]:
    return [image, ImageOps.mirror(image)]


def encode(
    encoder: Encoder, images: Sequence[Image.Image], views: Callable[[Image.Image], list[Image.Image]]
) -> np.ndarray:
    """(views, images, features), a hundred images at a time."""
    parts = []
    for start in range(0, len(images), 100):
        seen = [views(image) for image in images[start : start + 100]]
        flat = encoder.encode_images([view for image in seen for view in image])
        parts.append(flat.reshape(len(seen), -1, flat.shape[1]).transpose(1, 0, 2))
    return np.concatenate(parts, axis=1)


def shown(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.status
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("--copies", type=int, default=150, help="near-copies of each kind")
    parser.add_argument("--encoder", default="embedded", help="any address that load_encoder takes")
    parser.add_argument(
        "--spaces", nargs="+", choices=("encoder", "thumbnail"), default=("encoder", "thumbnail")
    )
    parser.add_argument("--quantile", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="where to draw the closest pairs of the hardest change")
    options = parser.parse_args()
    data = read_dataset(options.data)
    pools = [data.where(pool=pool) for pool in ("reference", "validation", "test")]
    training, held_out, unseen = (pictures(pool) for pool in pools)
    groups = [record.group for record in pools[1]]
    rng = np.random.default_rng(options.seed)
    chosen = rng.choice(len(training), size=min(options.copies, len(training)), replace=False)
    planted = {name: [change(training[i], rng) for i in chosen] for name, change in CHANGES.items()}
    print(
        f"{len(training)} training images, {len(held_out)} held out, {len(unseen)} unseen; "
        f"{len(chosen)} near-copies of each kind, seed {options.seed}\n"
    )
    spaces: dict[str, tuple[Encoder, Callable[[Image.Image], list[Image.Image]]]] = {}
    if "encoder" in options.spaces:
        encoder = load_encoder(options.encoder)
        spaces[options.encoder] = encoder, lambda image: [image]
        spaces[f"{options.encoder}, mirrored too"] = encoder, mirrored
    if "thumbnail" in options.spaces:
        thumbnail = ThumbnailEncoder()
        spaces["thumbnail"] = thumbnail, lambda image: [image]
        spaces["thumbnail, mirrored too"] = thumbnail, mirrored
        spaces["thumbnail, 38 views"] = thumbnail, copy_views
    columns: dict[tuple[float, str], list[str]] = {}
    for space, (net, views) in spaces.items():
        known, real = (encode(net, images, views) for images in (training, held_out))
        queries = {name: net.encode_images(images) for name, images in planted.items()}
        alarms = net.encode_images(unseen)
        for quantile in options.quantile:
            column = columns.setdefault((quantile, space), [])
            for rows in queries.values():
                found = memorization(rows, known, real, groups=groups, quantile=quantile)
                right = float(np.mean(found.nearest == chosen))
                column.append(f"{shown(found.share)} [{100 * right:.0f} %]")
            column.append(
                f"{shown(memorization(alarms, known, real, groups=groups, quantile=quantile).share)}"
            )
        for quantile in options.quantile:  # the tables come last; an interrupted run has shown this much
            done = "; ".join(columns[quantile, space])
            print(f"{space}, quantile {quantile:g}: {done}", file=sys.stderr, flush=True)
        if options.sheet and space == list(spaces)[-1]:
            rows = queries["crop to 85 %, mirrored, noise, JPEG"]
            found = memorization(rows, known, real, groups=groups, quantile=options.quantile[0])
            pairs_sheet(found.closest, planted["crop to 85 %, mirrored, noise, JPEG"], training).save(
                options.sheet
            )
    for quantile in options.quantile:
        print(f"Flagged at quantile {quantile:g}\n")
        print("| planted copies | " + " | ".join(spaces) + " |\n|---|" + "---|" * len(spaces))
        for i, name in enumerate([*CHANGES, "**no copies: the test pool**"]):
            print(f"| {name} | " + " | ".join(columns[quantile, space][i] for space in spaces) + " |")
        print()


if __name__ == "__main__":
    main()
