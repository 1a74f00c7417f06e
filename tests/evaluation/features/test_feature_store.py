"""The feature store: each image once, nothing stale, nothing corrupt, several processes at a time."""

import hashlib
import multiprocessing
import os
import sqlite3
import tracemalloc
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from evaluation import FeatureStore, FeatureStoreError
from evaluation.features import feature_store
from promptopt.base.images import READER
from promptopt.base.locks import hold


class MeanColor:
    """Mean, spread and maximum of each channel; counts what it is asked for."""

    uri = "mean-color"
    dim = 9

    def __init__(self, fingerprint: str = "f" * 64) -> None:
        self.fingerprint = fingerprint
        self.computed_on = ""
        self.calls: list[int] = []

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.calls.append(len(images))
        rows = [np.asarray(image, dtype=np.float32).reshape(-1, 3) for image in images]
        return np.stack([np.concatenate([r.mean(0), r.std(0), r.max(0)]) for r in rows])

    @property
    def encoded(self) -> int:
        return sum(self.calls)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"image {i}.png" for i in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return paths


def test_second_time_nothing_is_encoded(tmp_path: Path, images: list[Path]) -> None:
    encoder = MeanColor()
    first = FeatureStore(tmp_path / "new" / "features").features(encoder, images, batch_size=3)
    assert encoder.calls == [3, 3, 1]
    again = FeatureStore(tmp_path / "new" / "features").features(encoder, images[::-1])
    assert encoder.encoded == 7
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again[::-1])
    np.testing.assert_array_equal(first, encoder.encode_images([Image.open(path) for path in images]))


def test_features_that_came_with_images_are_not_computed_again(tmp_path: Path, images: list[Path]) -> None:
    encoder, store = MeanColor(), FeatureStore(tmp_path / "features")
    rows = encoder.encode_images([Image.open(path) for path in images[:3]])
    store.keep(encoder, images[:3], rows)
    encoder.calls.clear()
    np.testing.assert_array_equal(store.features(encoder, images)[:3], rows)
    assert encoder.encoded == 4
    for wrong in (rows[:2], rows[:, :5], np.full_like(rows, np.nan)):
        with pytest.raises(FeatureStoreError, match=r"mean-color.*3 images"):
            store.keep(encoder, images[:3], wrong)


def test_an_image_whose_checksum_is_known_is_not_read_for_it(tmp_path: Path, images: list[Path]) -> None:
    store, encoder = FeatureStore(tmp_path / "features"), MeanColor()
    rows = store.features(encoder, images)
    known = [
        SimpleNamespace(path=tmp_path / "gone.png", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in images
    ]
    np.testing.assert_array_equal(store.features(encoder, known), rows)
    store.keep(encoder, known, rows)
    assert (encoder.encoded, len(store)) == (7, 7)
    unknown = SimpleNamespace(path=images[0], sha256="0" * 64)
    np.testing.assert_array_equal(store.features(encoder, [unknown, images[1]]), rows[:2])
    assert encoder.encoded == 8


def test_keyed_by_content_and_encoder(tmp_path: Path, images: list[Path]) -> None:
    store, encoder = FeatureStore(tmp_path / "features"), MeanColor()
    features = store.features(encoder, images)
    moved = tmp_path / "moved.png"
    moved.write_bytes(images[2].read_bytes())
    np.testing.assert_array_equal(store.features(encoder, [moved, moved]), features[[2, 2]])
    assert encoder.encoded == 7
    images[2].write_bytes(images[3].read_bytes())
    np.testing.assert_array_equal(store.features(encoder, [images[2]]), features[[3]])
    other = MeanColor("0" * 64)
    store.features(other, images[:2])
    assert other.encoded == 2
    assert len(store) == 9


def test_progress_counts_images_that_are_ready(tmp_path: Path, images: list[Path]) -> None:
    store, seen = FeatureStore(tmp_path / "features"), []
    store.features(MeanColor(), images[:2])
    store.features(MeanColor(), images, batch_size=2, on_progress=seen.append)
    assert seen == [2, 4, 6, 7]


def test_nothing_asked_nothing_given(tmp_path: Path) -> None:
    assert FeatureStore(tmp_path / "features").features(MeanColor(), []).shape == (0, 9)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


DAMAGE = {
    "a bit of a vector": lambda keys, rows: _flip(rows, 9 * 4 * 3 + 5),
    "a bit of a key": lambda keys, rows: _flip(keys, 36 * 3 + 7),
    "a bit of a checksum": lambda keys, rows: _flip(keys, 36 * 3 + 33),
    "rows cut": lambda keys, rows: rows.write_bytes(rows.read_bytes()[: 36 * 3 + 10]),
    "keys cut": lambda keys, rows: keys.write_bytes(keys.read_bytes()[: 36 * 3 + 10]),
    "rows gone": lambda keys, rows: rows.unlink(),
    "zeros": lambda keys, rows: rows.write_bytes(bytes(rows.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_computed_again_and_nothing_else(
    tmp_path: Path, images: list[Path], damage: str
) -> None:
    store, encoder = FeatureStore(tmp_path / "features"), MeanColor()
    good = store.features(encoder, images)
    (keys,), (rows,) = store.path.glob("*/*.keys"), store.path.glob("*/*.rows")
    DAMAGE[damage](keys, rows)
    lost = {"rows cut": 4, "keys cut": 4, "rows gone": 7, "zeros": 7}.get(damage, 1)
    for place, count in ((tmp_path / "features", 7 + lost), (tmp_path / "features", 7 + lost)):
        np.testing.assert_array_equal(FeatureStore(place).features(encoder, images), good)
        assert encoder.encoded == count


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path, images: list[Path]) -> None:
    encoder = MeanColor()
    FeatureStore(tmp_path / "features").features(encoder, images[:3])
    (rows,) = (tmp_path / "features").glob("*/*.rows")
    rows.write_bytes(rows.read_bytes() + b"half a row")  # written, and its key not
    FeatureStore(tmp_path / "features").features(encoder, images)
    assert rows.stat().st_size == 7 * 36
    again = FeatureStore(tmp_path / "features").features(encoder, images)
    np.testing.assert_array_equal(again, MeanColor().encode_images([Image.open(path) for path in images]))
    assert encoder.encoded == 7


def test_a_store_of_the_version_before_is_read(tmp_path: Path, images: list[Path]) -> None:
    """As that version's own statements write it."""
    encoder, rows = MeanColor(), MeanColor().encode_images([Image.open(path) for path in images[:5]])
    with closing(sqlite3.connect(tmp_path / "features.sqlite")) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE features (image TEXT NOT NULL, encoder TEXT NOT NULL, checksum INTEGER NOT NULL, "
            "vector BLOB NOT NULL, PRIMARY KEY (image, encoder)) WITHOUT ROWID"
        )
        connection.execute("PRAGMA user_version = 1")
        for path, row in zip(images, rows, strict=False):
            blob = row.astype("<f4").tobytes()
            key = f"{hashlib.sha256(path.read_bytes()).hexdigest()} reader {READER}"
            wrong = path == images[4]  # its checksum does not fit
            values = (key, encoder.fingerprint, zlib.crc32(blob) + wrong, blob)
            connection.execute("INSERT INTO features VALUES (?, ?, ?, ?)", values)
    found = FeatureStore(tmp_path / "features").features(encoder, images)
    assert encoder.encoded == 3
    np.testing.assert_array_equal(found[:4], rows[:4])
    (tmp_path / "features.sqlite").unlink()
    FeatureStore(tmp_path / "features.sqlite").features(encoder, images)  # the old name means the new folder
    assert encoder.encoded == 3


def test_a_damaged_store_of_the_version_before_is_warned_of(
    tmp_path: Path, images: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "features.sqlite").write_text("this is no database" * 100)
    encoder = MeanColor()
    FeatureStore(tmp_path / "features").features(encoder, images)
    assert encoder.encoded == 7
    assert "features.sqlite" in caplog.text
    assert "computed again" in caplog.text


def test_writers_side_by_side_have_segments_of_their_own(tmp_path: Path, images: list[Path]) -> None:
    store, encoder = FeatureStore(tmp_path / "features"), MeanColor()
    store.features(encoder, images[:2])
    (folder,) = (path.parent for path in store.path.glob("*/0000.keys"))
    with hold(folder / "0000.lock"):
        store.features(encoder, images[:5])
    assert sorted(path.name for path in folder.glob("*.keys")) == ["0000.keys", "0001.keys"]
    FeatureStore(tmp_path / "features").features(encoder, images)
    assert encoder.encoded == 7


def test_memory_is_that_of_the_answer_and_progress_costs_no_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the vectors themselves; no image is read, since only the bookkeeping counts here."""
    count, dim = 3000, 512

    class Constant(MeanColor):
        uri, dim = "constant", 512

    rows = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    paths = [Path(f"/{index}") for index in range(count)]
    monkeypatch.setattr(
        feature_store, "file_digest", lambda path: hashlib.sha256(str(path).encode()).hexdigest()
    )
    monkeypatch.setattr(feature_store, "encode", lambda _, some: rows[[int(path.name) for path in some]])
    store, seen = FeatureStore(tmp_path / "features"), []
    tracemalloc.start()
    try:
        found = store.features(Constant(), paths, on_progress=seen.append)
        peak = tracemalloc.get_traced_memory()[1]
        np.testing.assert_array_equal(found, rows)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        again = FeatureStore(tmp_path / "features").features(Constant(), paths)
        second = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(again, rows)
    assert seen == [0, *range(64, count, 64), count]
    assert peak < 2 * count * 4 * dim
    assert second < 1.6 * count * 4 * dim + 2 * 1024 * 4 * dim


def test_interrupted_work_is_kept(tmp_path: Path, images: list[Path]) -> None:
    class Tired(MeanColor):
        def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().encode_images(images)

    store = FeatureStore(tmp_path / "features")
    with pytest.raises(KeyboardInterrupt):
        store.features(Tired(), images, batch_size=2)
    rested = MeanColor()
    store.features(rested, images)
    assert rested.encoded == 3


def test_broken_and_missing_images_are_named(tmp_path: Path, images: list[Path]) -> None:
    store = FeatureStore(tmp_path / "features")
    images[4].write_bytes(images[4].read_bytes()[:60])
    with pytest.raises(FeatureStoreError, match=r"image 4\.png: not a readable image"):
        store.features(MeanColor(), images)
    images[1].write_text("not an image")
    with pytest.raises(FeatureStoreError, match=r"image 1\.png: not a readable image"):
        store.features(MeanColor(), images)
    with pytest.raises(FeatureStoreError, match=r"absent\.png: cannot be read"):
        store.features(MeanColor(), [tmp_path / "absent.png"])


def test_encoder_that_misbehaves_is_caught(tmp_path: Path, images: list[Path]) -> None:
    class Wrong(MeanColor):
        def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            return super().encode_images(images)[:, :5]

    class Nan(MeanColor):
        def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            rows = super().encode_images(images)
            rows[1, 2] = np.nan
            return rows

    store = FeatureStore(tmp_path / "features")
    with pytest.raises(FeatureStoreError, match=r"shape \(7, 5\)"):
        store.features(Wrong(), images)
    with pytest.raises(FeatureStoreError, match=r"image 1\.png: mean-color gives a NaN"):
        store.features(Nan(), images)
    assert len(store) == 0


def test_places_that_cannot_hold_a_store(tmp_path: Path, images: list[Path]) -> None:
    for place in (images[0], images[1] / "features"):
        with pytest.raises(FeatureStoreError, match=r"the features cannot be written.*another place"):
            FeatureStore(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FeatureStoreError, match="choose another place"):
            FeatureStore(tmp_path / "features")
    finally:
        tmp_path.chmod(0o700)


def _work(path: Path, images: list[Path], turn: int) -> None:
    FeatureStore(path).features(MeanColor(), images[turn:] + images[:turn], batch_size=1)


def test_processes_at_the_same_time(tmp_path: Path, images: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_work, args=(tmp_path / "features", images, turn)) for turn in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    store, encoder = FeatureStore(tmp_path / "features"), MeanColor()
    assert len(store) == 7
    expected = encoder.encode_images([Image.open(path) for path in images])
    np.testing.assert_array_equal(store.features(MeanColor(), images), expected)


def test_features_of_one_kind_of_device_are_no_answer_for_another(tmp_path: Path, images: list[Path]) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    encoders = [MeanColor(), MeanColor(), MeanColor()]
    encoders[1].computed_on = "gpu=NVIDIA H100;cuda=12.8"
    for encoder in encoders:
        store.features(encoder, images)
    assert [encoder.encoded for encoder in encoders] == [7, 7, 0]
