"""The feature store: each image once, nothing stale, nothing corrupt, several processes at a time."""

import multiprocessing
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import FeatureStore, FeatureStoreError


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
    first = FeatureStore(tmp_path / "new" / "features.sqlite").features(encoder, images, batch_size=3)
    assert encoder.calls == [3, 3, 1]
    again = FeatureStore(tmp_path / "new" / "features.sqlite").features(encoder, images[::-1])
    assert encoder.encoded == 7
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again[::-1])
    np.testing.assert_array_equal(first, encoder.encode_images([Image.open(path) for path in images]))


def test_features_that_came_with_images_are_not_computed_again(tmp_path: Path, images: list[Path]) -> None:
    encoder, store = MeanColor(), FeatureStore(tmp_path / "features.sqlite")
    rows = encoder.encode_images([Image.open(path) for path in images[:3]])
    store.keep(encoder, images[:3], rows)
    encoder.calls.clear()
    np.testing.assert_array_equal(store.features(encoder, images)[:3], rows)
    assert encoder.encoded == 4
    for wrong in (rows[:2], rows[:, :5], np.full_like(rows, np.nan)):
        with pytest.raises(FeatureStoreError, match=r"mean-color.*3 images"):
            store.keep(encoder, images[:3], wrong)


def test_keyed_by_content_and_encoder(tmp_path: Path, images: list[Path]) -> None:
    store, encoder = FeatureStore(tmp_path / "f.sqlite"), MeanColor()
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
    store, seen = FeatureStore(tmp_path / "f.sqlite"), []
    store.features(MeanColor(), images[:2])
    store.features(MeanColor(), images, batch_size=2, on_progress=seen.append)
    assert seen == [2, 4, 6, 7]


def test_nothing_asked_nothing_given(tmp_path: Path) -> None:
    assert FeatureStore(tmp_path / "f.sqlite").features(MeanColor(), []).shape == (0, 9)


@pytest.mark.parametrize("damage", ["x'00'", "x'" + "00" * 36 + "'", "NULL", "'text'"])
def test_corrupt_row_is_made_again(tmp_path: Path, images: list[Path], damage: str) -> None:
    store, encoder = FeatureStore(tmp_path / "f.sqlite"), MeanColor()
    good = store.features(encoder, images)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        if damage == "NULL":
            connection.execute("UPDATE features SET checksum = checksum + 1")
        else:
            connection.execute(f"UPDATE features SET vector = {damage}")
    np.testing.assert_array_equal(store.features(encoder, images), good)
    assert encoder.encoded == 14
    np.testing.assert_array_equal(store.features(encoder, images), good)
    assert encoder.encoded == 14


def test_interrupted_work_is_kept(tmp_path: Path, images: list[Path]) -> None:
    class Tired(MeanColor):
        def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().encode_images(images)

    store = FeatureStore(tmp_path / "f.sqlite")
    with pytest.raises(KeyboardInterrupt):
        store.features(Tired(), images, batch_size=2)
    rested = MeanColor()
    store.features(rested, images)
    assert rested.encoded == 3


def test_broken_and_missing_images_are_named(tmp_path: Path, images: list[Path]) -> None:
    store = FeatureStore(tmp_path / "f.sqlite")
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

    store = FeatureStore(tmp_path / "f.sqlite")
    with pytest.raises(FeatureStoreError, match=r"shape \(7, 5\)"):
        store.features(Wrong(), images)
    with pytest.raises(FeatureStoreError, match=r"image 1\.png: mean-color gives a NaN"):
        store.features(Nan(), images)
    assert len(store) == 0


def test_places_that_cannot_hold_a_store(tmp_path: Path, images: list[Path]) -> None:
    images[0].write_text("this is no database" * 100)
    with pytest.raises(FeatureStoreError, match=r"not a database.*delete it"):
        FeatureStore(images[0])
    with pytest.raises(FeatureStoreError, match="cannot make its folder"):
        FeatureStore(images[1] / "f.sqlite")
    with pytest.raises(FeatureStoreError, match="writable place"):
        FeatureStore(tmp_path)
    with closing(sqlite3.connect(tmp_path / "later.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(FeatureStoreError, match="another version"):
        FeatureStore(tmp_path / "later.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FeatureStoreError, match="writable place"):
            FeatureStore(tmp_path / "f.sqlite")
    finally:
        tmp_path.chmod(0o700)


def _work(path: Path, images: list[Path], turn: int) -> None:
    FeatureStore(path).features(MeanColor(), images[turn:] + images[:turn], batch_size=1)


def test_processes_at_the_same_time(tmp_path: Path, images: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_work, args=(tmp_path / "f.sqlite", images, turn)) for turn in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    store, encoder = FeatureStore(tmp_path / "f.sqlite"), MeanColor()
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
