"""Labeled images on disk: prepared data sets, and folders with one subfolder for each label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from evaluation.classifier.images import ClassifierError, LabeledImages, split_rows
from promptopt.base.files import SUFFIXES, file_digest, images_below
from studies.dataset import METADATA, Dataset, metadata_file, read_dataset

Target = Literal["label", "category"]


@dataclass(frozen=True)
class ImageFiles:
    """n image files with a label, a group, a center and (of prepared sets) a pool each."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    centers: tuple[str, ...]
    pools: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> ImageFiles:
        """The files at these positions."""
        columns = (self.paths, self.labels, self.groups, self.centers, self.pools)
        return ImageFiles(*(tuple(column[i] for i in rows) for column in columns))  # type: ignore[arg-type]

    def of_classes(self, classes: Collection[str]) -> ImageFiles:
        """The files whose label is one of `classes`."""
        return self.take([i for i, label in enumerate(self.labels) if label in classes])

    def of_pools(self, pools: Collection[str]) -> ImageFiles:
        """The files in one of these pools."""
        return self.take([i for i, pool in enumerate(self.pools) if pool in pools])

    def labeled(self, inputs: NDArray[Any]) -> LabeledImages:
        """With what a learner reads of them, row by row."""
        return LabeledImages(inputs, self.labels, self.groups, self.centers)


def prepared_files(data: Dataset, *, target: Target = "label") -> ImageFiles:
    """The files of a prepared data set; the class is the record's label or its category."""
    return ImageFiles(
        tuple(data.paths()),
        tuple(record.category if target == "category" else record.label for record in data),
        tuple(record.group for record in data),
        tuple(record.center for record in data),
        tuple(record.pool for record in data),
    )


def synthetic_files(folder: str | Path, *, target: Target = "label") -> ImageFiles:
    """Synthetic images: a prepared data set, or a folder with one subfolder for each label.

    In the second layout the class is the subfolder's name, images are found in it at any depth (those of
    `SUFFIXES`; hidden files are passed over), every different image is a group of its own, the center is
    ``synthetic`` and the pool is empty.

    Raises:
        ClassifierError: no such folder, no subfolder with an image, or an image beside the subfolders.
        studies.dataset.DatasetError: a faulty prepared data set.
    """
    root = Path(folder)
    if metadata_file(root) is not None:
        return prepared_files(read_dataset(root), target=target)
    if not root.is_dir():
        raise ClassifierError(
            f"{root}: no such folder; give a prepared data set or a folder with a subfolder for each label"
        )
    found: list[tuple[Path, str]] = []
    for child in sorted(root.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_file() and child.suffix.lower() in SUFFIXES:
            raise ClassifierError(
                f"{child}: an image without a label; move it into a subfolder named after its label, "
                f"or write a {METADATA}"
            )
        if child.is_dir():
            found += [(path, child.name) for path in images_below(child)[0]]
    if not found:
        raise ClassifierError(
            f"{root}: no image in any subfolder; give one subfolder for each label, with images "
            f"({', '.join(SUFFIXES)}), or a prepared data set"
        )
    first: dict[str, str] = {}
    groups = [first.setdefault(_digest(path), path.relative_to(root).as_posix()) for path, _ in found]
    return ImageFiles(
        tuple(path for path, _ in found),
        tuple(label for _, label in found),
        tuple(f"synthetic:{group}" for group in groups),
        ("synthetic",) * len(found),
        ("",) * len(found),
    )


def split_synthetic(
    files: ImageFiles, *, share: float = 0.25, seed: int = 0
) -> tuple[ImageFiles, ImageFiles]:
    """Synthetic images to train on and to test on.

    Where pools say so, ``test`` is the second part and all others the first; else `share` of each label's
    groups is held out.
    """
    if "test" in files.pools:
        rest = [pool for pool in set(files.pools) if pool != "test"]
        return files.of_pools(rest), files.of_pools(["test"])
    first, second = split_rows(files.labels, files.groups, share=share, seed=seed)
    return files.take(list(first)), files.take(list(second))


def refuse_copies(training: Mapping[str, ImageFiles], test: Mapping[str, ImageFiles]) -> None:
    """Refuse a file of a test set whose very bytes are trained on.

    Raises:
        ClassifierError: names both files.
    """
    seen: dict[str, Path] = {}
    for files in training.values():
        for path in files.paths:
            seen.setdefault(_digest(path), path)
    for name, files in test.items():
        for path in files.paths:
            if (copy := seen.get(_digest(path))) is not None:
                raise ClassifierError(
                    f"{path} ({name}) is the same file as {copy}, which is trained on; remove one of them"
                )


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise ClassifierError(f"{path}: cannot be read ({error.strerror}); check the file") from error
