"""The phantom as a prepared data set, so that every stage reads it like a hospital's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from studies.dataset import Dataset, DatasetError, Pool, Record, read_dataset, write_metadata
from studies.phantom.captions import captions
from studies.phantom.render import render
from studies.phantom.scene import sample_scene

# Recorded beside the images; a change of the renderer makes old folders stale.
VERSION = 2
_CHUNK = 64


def write_phantom(
    out: str | Path,
    *,
    images: int,
    seed: int = 0,
    size: int = 64,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Render ``images`` scenes into ``out`` as a prepared data set (pools 60 : 20 : 20).

    Image ``i`` depends on ``(seed, i)`` alone, so a larger set begins with the smaller one.
    A folder that already holds this very set is read and returned.

    Args:
        size: Width and height in pixels.
        workers: Processes that render.
        on_progress: Called with the number of images written so far.

    Raises:
        DatasetError: if ``out`` holds something else.
    """
    root = Path(out)
    recipe = {"phantom": VERSION, "images": images, "seed": seed, "size": size}
    stamp = root / "phantom.json"
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
    for batch in _render_all(partial(_write_chunk, root, seed, size, images), images, workers):
        records += batch
        if on_progress:
            on_progress(len(records))
    write_metadata(root, records)
    return read_dataset(root)


def _render_all(job: Callable[[int], list[Record]], images: int, workers: int) -> Iterator[list[Record]]:
    starts = range(0, images, _CHUNK)
    if workers <= 1:
        yield from map(job, starts)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(job, starts)


def _write_chunk(root: Path, seed: int, size: int, images: int, start: int) -> list[Record]:
    records = []
    for index in range(start, min(start + _CHUNK, images)):
        # Words and pool have dice of their own, so that a change of words moves no image to another pool.
        rng, words, lot = (np.random.default_rng([seed, index, *key]) for key in ((), (1,), (2,)))
        scene = sample_scene(rng)
        name = f"images/{index:06d}.png"
        render(scene, size=size).save(root / name, compress_level=1)
        records.append(
            Record(
                file_name=name,
                text=captions(scene, words),
                category=scene.category,
                label=scene.kind,
                center=scene.center,
                group=f"phantom-{seed}-{index:06d}",
                pool=_pool(lot),
                attributes=scene.attributes(),
            )
        )
    return records


def _pool(rng: np.random.Generator) -> Pool:
    draw = rng.random()
    return "reference" if draw < 0.6 else "validation" if draw < 0.8 else "test"
