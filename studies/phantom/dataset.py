"""The phantom as a prepared data set, so that every stage reads it like a hospital's."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from studies.dataset import Dataset, DatasetError, Pool, Record, read_dataset, write_metadata
from studies.phantom.captions import captions
from studies.phantom.hospitals import HOME, HOSPITALS, Hospital
from studies.phantom.render import render
from studies.phantom.scene import Scene, sample_scene

# Recorded beside the images; a change of the renderer makes old folders stale.
VERSION = 2
STAMP = "phantom.json"
_CHUNK = 64
TEST = 300  # pictures of each label that confirm what a hospital's few real ones suggest


@dataclass(frozen=True)
class _Plan:
    """Which picture number ``index`` of a set is."""

    root: Path
    seed: int
    size: int
    images: int
    hospital: str | None
    test: int

    def total(self) -> int:
        return self.images if self.hospital is None else len(self._labels()) * (self.images + self.test)

    def record(self, index: int) -> Record:
        """Render picture ``index`` and say what it is."""
        return self._natural(index) if self.hospital is None else self._of_label(index)

    def _natural(self, index: int) -> Record:
        # Words and pool have dice of their own, so that a change of words moves no image to another pool.
        rng, words, lot = (np.random.default_rng([self.seed, index, *key]) for key in ((), (1,), (2,)))
        group = f"phantom-{self.seed}-{index:06d}"
        scene = sample_scene(rng, hospital=HOME)
        return self._written(f"{index:06d}", scene, words, group=group, center=scene.center, pool=_pool(lot))

    def _of_label(self, index: int) -> Record:
        assert self.hospital is not None
        labels = self._labels()
        # Label by label in turn; the test pictures are numbered anew, so that more others change none.
        number, label = index // len(labels), labels[index % len(labels)]
        tested = number >= self.images
        number -= self.images * tested
        key = [self.seed, zlib.crc32(f"{self.hospital}/{label}".encode()), int(tested), number]
        rng, words = np.random.default_rng(key), np.random.default_rng([*key, 1])
        pool: Pool = "test" if tested else ("reference", "validation")[number % 2]
        name = f"{label.replace(' ', '-')}-{'test' if tested else 'seen'}-{number:05d}"
        scene = sample_scene(rng, kind=label, hospital=self._hospital())
        group = f"phantom-{self.hospital}-{self.seed}-{name}"
        return self._written(name, scene, words, group=group, center=self.hospital, pool=pool)

    def _written(
        self, name: str, scene: Scene, words: np.random.Generator, *, group: str, center: str, pool: Pool
    ) -> Record:
        file_name = f"images/{name}.png"
        render(scene, size=self.size).save(self.root / file_name, compress_level=1)
        return Record(
            file_name=file_name,
            text=captions(scene, words),
            category=scene.category,
            label=scene.kind,
            center=center,
            group=group,
            pool=pool,
            attributes=scene.attributes(),
        )

    def _hospital(self) -> Hospital:
        return HOSPITALS[self.hospital or HOME.name]

    def _labels(self) -> tuple[str, ...]:
        return self._hospital().labels


def write_phantom(
    out: str | Path,
    *,
    images: int,
    seed: int = 0,
    size: int = 64,
    hospital: str | None = None,
    test: int = TEST,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Render scenes into ``out`` as a prepared data set.

    Without a hospital: ``images`` scenes of all categories as the embedded networks were trained on them, in
    pools 60 : 20 : 20. Image ``i`` depends on ``(seed, i)`` alone, so a larger set begins with the smaller
    one. With a hospital (one of ``studies.phantom.hospitals``): of each of its labels ``images`` pictures to
    look at, half of them in the pool "reference", half in "validation", and ``test`` ones, which depend
    neither on ``images`` nor on other hospitals; ``center`` is the hospital.
    A folder that already holds this very set is read and returned.

    Args:
        size: Width and height in pixels.
        workers: Processes that render.
        on_progress: Called with the number of images written so far.

    Raises:
        DatasetError: if ``out`` holds something else, or there is no such hospital.
    """
    root = Path(out)
    recipe: dict[str, object] = {"phantom": VERSION, "images": images, "seed": seed, "size": size}
    if hospital is not None:
        recipe |= {"hospital": hospital, "test": test}
        if hospital not in HOSPITALS:
            raise DatasetError(f"hospital {hospital!r} does not exist; choose {', '.join(HOSPITALS)}")
    stamp = root / STAMP
    if stamp.is_file() and (root / "metadata.jsonl").is_file():
        if json.loads(stamp.read_text("utf-8")) == recipe:
            return read_dataset(root)
        raise DatasetError(
            f"{root}: holds another phantom set {stamp.read_text('utf-8')}; choose an empty folder"
        )
    if root.exists() and any(path.name not in ("images", stamp.name) for path in root.iterdir()):
        raise DatasetError(f"{root}: is not empty and holds no phantom set; choose an empty folder")
    (root / "images").mkdir(parents=True, exist_ok=True)
    stamp.write_text(json.dumps(recipe), "utf-8")
    records: list[Record] = []
    plan = _Plan(root, seed, size, images, hospital, test)
    for batch in _render_all(partial(_write_chunk, plan), plan.total(), workers):
        records += batch
        if on_progress:
            on_progress(len(records))
    write_metadata(root, records)
    return read_dataset(root)


def is_phantom(root: str | Path) -> bool:
    """Whether a data set's folder was written by `write_phantom`."""
    return (Path(root) / STAMP).is_file()


def _render_all(job: Callable[[int], list[Record]], images: int, workers: int) -> Iterator[list[Record]]:
    starts = range(0, images, _CHUNK)
    if workers <= 1:
        yield from map(job, starts)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(job, starts)


def _write_chunk(plan: _Plan, start: int) -> list[Record]:
    return [plan.record(index) for index in range(start, min(start + _CHUNK, plan.total()))]


def _pool(rng: np.random.Generator) -> Pool:
    draw = rng.random()
    return "reference" if draw < 0.6 else "validation" if draw < 0.8 else "test"
