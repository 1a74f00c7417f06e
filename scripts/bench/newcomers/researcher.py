"""How long from two folders of images without captions to a report by networks fine-tuned on them?

    python scripts/bench/newcomers/researcher.py [--photos DIR] [--small] [--work DIR]

The commands are those of docs/own-images.md, down to the proof.
"""

import argparse
import shutil
from pathlib import Path

from newcomer import blocks_of, walk

AGAIN = "data prepare imagefolder"  # the same images once more, by another way in
DRAWN = ("python photos.py", "Stands in for your images")


def photos_of(folder: Path | None, work: Path) -> None:
    if folder is not None:
        shutil.copytree(folder, work / "photos")


if __name__ == "__main__":
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument(
        "--photos",
        type=Path,
        help="real images in polyp/ and normal/, named p12_a.jpg by patient; default: the page's drawn ones",
    )
    photos = own.parse_known_args()[0].photos
    walk(
        __doc__,
        blocks_of("docs/own-images.md", without=(AGAIN, *(DRAWN if photos else ()))),
        pictures=["runs/own/first-images.png", "runs/own/report.html"],
        prepare=lambda work: photos_of(photos, work),
        own=[own],
    )
