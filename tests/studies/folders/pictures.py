"""Folders of pictures as users have them, made on the spot."""

from collections.abc import Iterable
from pathlib import Path

from tests.studies.medvqa_gi.conftest import scene


def write_folders(
    root: Path, classes: Iterable[str] = ("polyp", "normal"), *, each: int = 20, first: int = 0
) -> Path:
    """`root/CLASS/CLASS-NN.png`, all pictures clearly different."""
    for number, label in enumerate(classes):
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            scene(first + 1000 * number + i).save(root / label / f"{Path(label).name}-{i:02d}.png")
    return root
