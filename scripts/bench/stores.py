"""What looking into the stores costs: bytes read, look-ups a second, memory and time of features.

    python scripts/bench/stores.py [--images 2000] [--features 20000] [--dim 512]

Images: asking a folder and a bucket in memory whether they have images, by reading each (`get`, as all
look-ups did before there was `has_many`) and by name and size. Bytes are those that the process's system
calls read, where the kernel counts them, and of the objects that were taken out of a bucket.
Features: a store filled and read back, against the one SQLite file of before, whose code is repeated here
with nothing but what it did to keep and find vectors. Encoding costs nothing, so time is the store's own.
Processor seconds, as other programs may run beside. Memory is the highest that Python and numpy held, less
the answer itself.
"""

import argparse
import hashlib
import os
import sqlite3
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.features import feature_store
from evaluation.features.feature_store import FeatureStore
from generators.request import ImageRequest
from generators.store import Store
from generators.stores.bucket import Bucket
from generators.stores.opening import open_store


def bytes_read() -> int:
    """By this process so far; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0


def requests(count: int) -> list[ImageRequest]:
    settings: dict[str, Any] = {"generator": "0" * 64, "steps": 20, "guidance": 7.5, "scheduler": "ddim"}
    settings |= {"width": 128, "height": 128, "dtype": "float32", "device": "cpu", "versions": "x=1"}
    settings["negative_prompt"] = ""
    return [ImageRequest(prompt=f"a polyp {i % 50}", seed=i, **settings) for i in range(count)]


class Taken:
    """Counts the bytes that leave buckets."""

    total = 0

    def __enter__(self) -> None:
        self._read = Bucket.read

        def counted(bucket: Bucket, *args: Any, **options: Any) -> bytes | None:
            content = self._read(bucket, *args, **options)
            Taken.total += len(content or b"")
            return content

        Bucket.read = counted  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Bucket.read = self._read  # type: ignore[method-assign]


def looked(name: str, store: Callable[[], Store], asked: list[ImageRequest]) -> None:
    """One look-up of every request, by reading and by name."""
    found: dict[str, tuple[float, int]] = {}
    for how in ("get", "has_many"):
        opened = store()
        begun, before = time.process_time(), bytes_read() + Taken.total
        if how == "get":
            count = sum(opened.get(request) is not None for request in asked)
        else:
            count = len(opened.has_many(asked))
        found[how] = (time.process_time() - begun, bytes_read() + Taken.total - before)
        assert count == len(asked)
    for how, (seconds, read) in found.items():
        rate = len(asked) / max(seconds, 1e-9)
        print(f"{name:16} {how:9} {rate:10,.0f} look-ups/s {read / len(asked):12,.0f} bytes read an image")
    ratio = found["get"][0] / max(found["has_many"][0], 1e-9)
    print(f"{name:16} {ratio:.1f} times the look-ups a second by name")


def images(count: int, work: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    asked, picture = requests(count), Image.fromarray(pixels)
    places = {
        "folder": str(work / "folder"),
        "memory://": "memory://bench",
        "shards": f"shards::{work}/shards",
    }
    machines = iter(range(100))

    def another(place: str) -> Store:
        os.environ["PROMPTOPT_CACHE"] = str(work / f"machine-{next(machines)}")
        return open_store(place)

    with Taken():
        for name, place in places.items():
            store = another(place)
            for request in asked:
                store.put(request, picture)
            store.flush()
            looked(name, lambda place=place: another(place), asked)  # type: ignore[misc]


def features_before(
    path: Path, keys: list[str], rows: np.ndarray, on_progress: Callable[[int], None]
) -> np.ndarray:
    """`FeatureStore.features` of before: a dictionary of vectors, counted anew after every batch."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS features (image TEXT NOT NULL, encoder TEXT NOT NULL, checksum "
            "INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (image, encoder)) WITHOUT ROWID"
        )
        found: dict[str, np.ndarray] = {}
        unique = sorted(set(keys))
        for start in range(0, len(unique), 500):
            part = unique[start : start + 500]
            marks = ",".join("?" * len(part))
            for image, checksum, vector in connection.execute(
                f"SELECT image, checksum, vector FROM features WHERE encoder = ? AND image IN ({marks})",
                ["f", *part],
            ):
                if zlib.crc32(vector) == checksum:
                    found[image] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        todo = [index for index, key in enumerate(keys) if key not in found]
        on_progress(sum(key in found for key in keys))
        for start in range(0, len(todo), 64):
            batch = todo[start : start + 64]
            blobs = [rows[index].astype("<f4").tobytes() for index in batch]
            values = [
                (keys[index], "f", zlib.crc32(blob), blob) for index, blob in zip(batch, blobs, strict=True)
            ]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", values)
            found.update((keys[index], rows[index].copy()) for index in batch)
            on_progress(sum(key in found for key in keys))
        return np.stack([found[key] for key in keys])


def measured(work: Callable[[], np.ndarray], *, memory: bool) -> tuple[np.ndarray, float]:
    """The answer; processor seconds, or bytes above those of the answer (counting them takes time)."""
    if not memory:
        begun = time.process_time()
        return work(), time.process_time() - begun
    tracemalloc.start()
    try:
        found = work()
        return found, float(tracemalloc.get_traced_memory()[1] - found.nbytes)
    finally:
        tracemalloc.stop()


class Nothing:
    uri, fingerprint = "nothing", "f" * 64

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode_images(self, images: Any) -> np.ndarray:
        raise NotImplementedError


def features(count: int, dim: int, work: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    paths = [Path(f"/{index}") for index in range(count)]
    digests = {path: hashlib.sha256(str(path).encode()).hexdigest() for path in paths}
    keys = [f"{digests[path]} reader 1" for path in paths]
    feature_store.file_digest = lambda path: digests[Path(path)]  # type: ignore[attr-defined]
    feature_store.encode = lambda _, some: rows[[int(path.name) for path in some]]  # type: ignore[attr-defined]
    encoder: Any = Nothing(dim)
    seconds: dict[tuple[str, str], float] = {}
    for memory in (False, True):
        new, old = work / f"new-{memory}", work / f"old-{memory}.sqlite"
        for what in ("filled", "read"):
            for name, job in (
                ("SQLite", lambda: features_before(old, keys, rows, lambda _: None)),  # noqa: B023
                (
                    "files",
                    lambda: FeatureStore(new).features(encoder, paths, on_progress=lambda _: None),  # noqa: B023
                ),
            ):
                found, value = measured(job, memory=memory)
                assert np.array_equal(found, rows)
                if memory:
                    print(
                        f"features {what:7} {name:7} {value / count:10,.0f} bytes an image beside the answer"
                    )
                else:
                    seconds[what, name] = value
                    print(f"features {what:7} {name:7} {value:10.2f} s for {count:,} of {dim} floats")
    for what in ("filled", "read"):
        print(f"features {what}: {seconds[what, 'SQLite'] / seconds[what, 'files']:.1f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--features", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images(options.images, Path(folder))
        features(options.features, options.dim, Path(folder))


if __name__ == "__main__":
    main()
