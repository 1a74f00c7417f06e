"""A set of images to be measured: a prepared data set, or any folder of images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptopt.base.errors import PromptoptError
from promptopt.base.files import SUFFIXES, images_below


class EvaluationError(PromptoptError, ValueError):
    """Two sets of images cannot be compared as asked; the message names what and the remedy."""


@dataclass(frozen=True)
class ImageSet:
    """Image files and what is known of each.

    Attributes:
        root: their folder.
        paths: the files.
        columns: ``category`` and ``center``, as far as known, one value for each file.
        fingerprint: hex sha256 of ``metadata.jsonl``, or of the files' names.
        ignored: files of the folder that are not images by their name.
        category_of: label -> category, for the labels of a prepared set that belong to one category alone.
        groups: of a prepared set, one for each file: near-duplicates share one. Else empty.
        pools: of a prepared set, one for each file. Else empty.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 8), "red").save(folder / "red.png")
        >>> images = read_image_set(folder)
        >>> len(images), images.paths[0].name
        (1, 'red.png')
    """

    root: Path
    paths: tuple[Path, ...]
    columns: Mapping[str, tuple[str, ...]]
    fingerprint: str
    ignored: int = 0
    category_of: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Iterable[int]) -> ImageSet:
        """The images at these positions."""
        chosen = [int(row) for row in rows]
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            columns={key: tuple(column[i] for i in chosen) for key, column in self.columns.items()},
            groups=tuple(self.groups[i] for i in chosen) if self.groups else (),
            pools=tuple(self.pools[i] for i in chosen) if self.pools else (),
        )

    def of_pools(self, *pools: str) -> ImageSet:
        """The images in one of these pools."""
        return self.take(i for i, pool in enumerate(self.pools) if pool in pools)

    def rows(self, key: str, value: str) -> NDArray[np.intp]:
        """Positions of the images with this value; all of them when the set knows nothing of `key`."""
        if key not in self.columns:
            return np.arange(len(self.paths))
        return np.flatnonzero(np.asarray(self.columns[key], dtype=object) == value)

    def named_as(self, other: ImageSet) -> ImageSet:
        """This set with the other's categories, where its own (folders' names) are the other's labels."""
        own = self.columns.get("category", ())
        known = set(other.columns.get("category", ()))
        names = {name: other.category_of.get(name, name) for name in set(own) - known}
        if not set(names.values()) <= known or not names:
            return self
        return replace(
            self, columns={**self.columns, "category": tuple(names.get(name, name) for name in own)}
        )


def read_image_set(
    folder: str | Path, *, category: str | None = None, pool: Collection[str] | None = None
) -> ImageSet:
    """Read a prepared data set (a folder with ``metadata.jsonl``), or find the images below any folder.

    In any other folder images are found by their suffix, in the order of their paths, hidden ones left out.
    Where every image lies in a subfolder, the first subfolder is its category.

    Args:
        folder: the folder.
        category: what all images show, where the folder does not say it.
        pool: of a prepared set, these pools alone.

    Raises:
        EvaluationError: no such folder, no image, or a pool asked of a folder without pools.
        studies.dataset.DatasetError: a prepared set that is broken.
    """
    from studies.dataset import METADATA, metadata_file, read_dataset, share_out

    root = Path(folder)
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder; give a folder of images or a prepared data set")
    if metadata_file(root) is not None:
        dataset = read_dataset(root)
        if pool is not None:
            dataset = share_out(dataset).where(pool=pool)
        if not len(dataset):
            raise EvaluationError(
                f"{root}: no image in pool {', '.join(sorted(pool or ()))}; name another pool"
            )
        columns = {
            "category": tuple(record.category for record in dataset),
            "center": tuple(record.center for record in dataset),
        }
        pairs = {(record.label, record.category) for record in dataset}
        labels = [label for label, _ in pairs]
        alone = {label: category for label, category in pairs if labels.count(label) == 1}
        return ImageSet(
            root,
            tuple(dataset.paths()),
            columns,
            dataset.fingerprint,
            category_of=alone,
            groups=tuple(record.group for record in dataset),
            pools=tuple(record.pool for record in dataset),
        )
    if pool is not None:
        raise EvaluationError(f"{root}: has no {METADATA}, so it has no pools; leave the pool out")
    paths, ignored = images_below(root)
    if not paths:
        raise EvaluationError(f"{root}: no image ({', '.join(SUFFIXES)}) in it or below; give another folder")
    names = [path.relative_to(root) for path in paths]
    columns = {}
    if category is not None:
        columns["category"] = (category,) * len(paths)
    elif all(len(name.parts) > 1 for name in names):
        columns["category"] = tuple(name.parts[0] for name in names)
    digest = hashlib.sha256("\n".join(name.as_posix() for name in names).encode()).hexdigest()
    return ImageSet(root, tuple(paths), columns, digest, ignored=ignored)
