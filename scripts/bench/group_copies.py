"""Do generated images repeat a lesion, not only a frame? Copies counted by the groups of the training images.

    python scripts/bench/group_copies.py DATA NAME=FOLDER [NAME=FOLDER ...] [--encoder URI] [--sheet DIR]

DATA is a prepared set with groups (frames of one lesion share one); its pool reference was trained on, its
other pools were not. FOLDER holds generated images. For each set, in two spaces (thumbnails of 38 views, and
an encoder's features of the image and its mirror image): the share of images that are nearer to a training
image than unseen real images ever are (at --quantile), how many groups these repeat, and the largest share of
all images whose nearest training image is of one group, beside the same of unseen real images. The pairs
nearest to each repeated group are drawn to --sheet.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from memorization import encode, mirrored
from PIL import Image

from evaluation import load_encoder, memorization
from evaluation.encoders.base import Encoder
from evaluation.encoders.thumbnail import ThumbnailEncoder, copy_views
from promptopt.base.files import images_below
from promptopt.base.images import read_image
from promptopt.formatting.copies import pairs_sheet
from promptopt.formatting.numbers import points
from studies.dataset import read_dataset

Views = Callable[[Image.Image], list[Image.Image]]


def pictures(paths: Sequence[Path]) -> list[Image.Image]:
    return [read_image(path) for path in paths]


def most(groups: Sequence[str]) -> str:
    """The group named most, and its share of all."""
    (group, count), *_ = Counter(groups).most_common(1)
    return f"{100 * count / len(groups):.1f} % ({group})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--encoder", default="thumbnail", help="of the second space")
    parser.add_argument("--quantile", type=float, default=0.01)
    parser.add_argument("--sheet", type=Path, help="folder for the pairs to look at")
    options = parser.parse_args()
    data = read_dataset(options.data)
    training, held_out = data.where(pool="reference"), data.where(pool=("validation", "test"))
    known = [record.group for record in training]
    print(
        f"{len(training)} training images in {len(set(known))} groups, {len(held_out)} unseen in "
        f"{len({record.group for record in held_out})}\n\n| images | space | copies, % | groups repeated | "
        "nearest to one group, most | the same of unseen real images |\n" + "| --- " * 6 + "|"
    )
    spaces: dict[str, tuple[Encoder, Views]] = {"thumbnails": (ThumbnailEncoder(), copy_views)}
    if options.encoder != "thumbnail":
        spaces[options.encoder.split("@")[0]] = (
            load_encoder(options.encoder),
            mirrored,
        )
    for space, (encoder, views) in spaces.items():
        seen, unseen = (encode(encoder, pictures(pool.paths()), views) for pool in (training, held_out))
        groups = [record.group for record in held_out]
        null = memorization(unseen[0], seen, unseen, groups=groups).nearest
        usual = most([known[i] for i in null])
        for name, _, folder in (one.partition("=") for one in options.sets):
            paths, _ = images_below(Path(folder))
            if not paths:
                raise SystemExit(f"{folder}: no PNG or JPEG; write NAME=FOLDER of generated images")
            made = encode(encoder, pictures(paths), lambda image: [image])[0]
            found = memorization(
                made, seen, unseen, groups=groups, quantile=options.quantile, pairs=len(made)
            )
            repeated = {known[found.nearest[i]] for i in found.copies}
            nearest = most([known[i] for i in found.nearest])
            share = points(found.share, sign="")
            print(
                f"| {name}, {len(made)} | {space} | {share} | {len(repeated)} | {nearest} | {usual} |",
                flush=True,
            )
            if options.sheet:
                first = {known[pair.training]: pair for pair in reversed(found.closest)}
                pairs = sorted(first.values(), key=lambda pair: pair.ratio)[:16]
                options.sheet.mkdir(parents=True, exist_ok=True)
                file = options.sheet / f"{name}-{space.replace(':', '-')}.png"
                pairs_sheet(pairs, paths, training.paths()).save(file)


if __name__ == "__main__":
    main()
