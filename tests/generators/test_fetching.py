"""`fetch` while images are being made: threads, interruptions, bad images, smaller batches."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators import BadImage, BadImageError, BatchHalvedError, ImageStore, StoredImage, StoreError
from generators.fetching import WAITING, fetch
from tests.generators.fake import FakeGenerator, fake_image


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def _same(one: Image.Image, other: Image.Image) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def test_interrupted_fetch_keeps_every_image_that_was_made(store: ImageStore) -> None:
    generator = FakeGenerator()
    panel = [generator.request("a", seed) for seed in range(200)]

    def stop(image: StoredImage, new: bool) -> None:
        if image.request.seed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(store, generator, panel, on_image=stop)
    assert len(generator.made) < 200
    assert [request for request in panel if store.get(request)] == generator.made
    assert {path.suffix for path in store.root.rglob("*.*")} == {".png", ".json"}


def test_threads_write_png_files_at_level_1_with_run_lengths(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = set()
    put = ImageStore.put

    def noted(self, request, image):  # type: ignore[no-untyped-def]
        writers.add(threading.current_thread().name.rpartition("_")[0])
        return put(self, request, image)

    monkeypatch.setattr(ImageStore, "put", noted)
    generator = FakeGenerator()
    for stored in fetch(store, generator, [generator.request("a", seed) for seed in range(8)]):
        found = _pixel_data(stored.path.read_bytes())
        image = stored.load()
        assert found == _pixel_data(_saved(image, compress_level=1, compress_type=zlib.Z_RLE))
        assert found != _pixel_data(_saved(image))  # Pillow's own level costs several times as much
    assert writers == {"image-store"}


def _saved(image: Image.Image, **how: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **how)
    return buffer.getvalue()


def _pixel_data(png: bytes) -> bytes:
    """The IDAT chunks, as they are compressed."""
    place, found = 8, b""
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            found += png[place + 8 : place + 8 + length]
        place += 12 + length
    assert zlib.decompress(found)
    return found


def test_images_are_written_beside_the_generation(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    second_is_made = threading.Event()
    put = ImageStore.put

    class Watched(FakeGenerator):
        def generate(self, requests):  # type: ignore[no-untyped-def]
            for index, image in enumerate(super().generate(requests)):
                if index == 1:
                    second_is_made.set()
                yield image

    def slow(self, request, image):  # type: ignore[no-untyped-def]
        if request.seed == 0:
            assert second_is_made.wait(30)  # would last for ever if generation waited for the writing
        return put(self, request, image)

    monkeypatch.setattr(ImageStore, "put", slow)
    generator = Watched()
    panel = [generator.request("a", seed) for seed in range(5)]
    reported: list[int] = []
    threads: set[int] = set()

    def on_image(image: StoredImage, new: bool) -> None:
        reported.append(image.request.seed)
        threads.add(threading.get_ident())

    images = fetch(store, generator, panel, on_image=on_image)
    assert [image.request for image in images] == panel
    assert reported == [0, 1, 2, 3, 4]  # in the order they were made, though the first was written last
    assert threads == {threading.get_ident()}


def test_images_waiting_to_be_written_are_bounded(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    ahead: list[int] = []
    put = ImageStore.put
    lock = threading.Lock()

    def slow(self, request, image):  # type: ignore[no-untyped-def]
        nonlocal written
        time.sleep(0.002)
        stored = put(self, request, image)
        with lock:
            written += 1
        return stored

    class Watched(FakeGenerator):
        def generate(self, requests):  # type: ignore[no-untyped-def]
            for index, image in enumerate(super().generate(requests)):
                ahead.append(index - written)
                yield image

    monkeypatch.setattr(ImageStore, "put", slow)
    generator = Watched()
    fetch(store, generator, [generator.request("a", seed) for seed in range(4 * WAITING)])
    assert max(ahead) <= WAITING
    assert written == 4 * WAITING


def test_failure_to_write_surfaces_and_the_others_are_kept(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ImageStore.put

    def full(self, request, image):  # type: ignore[no-untyped-def]
        if request.seed == 3:
            raise StoreError("No space left on device; free some space")
        return put(self, request, image)

    generator = FakeGenerator()
    panel = [generator.request("a", seed) for seed in range(200)]
    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "put", full)
        with pytest.raises(StoreError, match="No space left"):
            fetch(store, generator, panel)
    kept = [request for request in panel if store.get(request)]
    assert kept == [request for request in generator.made if request.seed != 3]
    again = FakeGenerator()
    assert len(fetch(store, again, panel)) == 200
    assert len(again.made) == 200 - len(kept)


class Spoilt(FakeGenerator):
    """Gives a bad image for some seeds, as DiffusionGenerator does: an error when its turn has come."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self.bad = bad

    def generate(self, requests):  # type: ignore[no-untyped-def]
        for index, request in enumerate(requests):
            if request.seed in self.bad:
                raise BadImageError([BadImage(request, "black")], made=index + 1)
            yield from super().generate([request])


def test_bad_images_are_counted_and_not_stored_and_the_others_are(store: ImageStore) -> None:
    generator = Spoilt({1, 4})
    panel = [generator.request("a", seed) for seed in range(6)]
    with pytest.raises(BadImageError, match=r"2 of 6 images.*seed 1.*black") as caught:
        fetch(store, generator, panel)
    assert caught.value.counts == {"black": 2}
    assert [image.request.seed for image in caught.value.images] == [1, 4]
    assert [store.get(request) is not None for request in panel] == [s not in (1, 4) for s in range(6)]
    assert sorted(request.seed for request in generator.made) == [0, 2, 3, 5]


def test_model_that_makes_bad_images_alone_is_stopped_early(store: ImageStore) -> None:
    generator = Spoilt(set(range(1000)))
    with pytest.raises(BadImageError) as caught:
        fetch(store, generator, [generator.request("a", seed) for seed in range(1000)])
    assert caught.value.made < 20
    assert not list(store.root.rglob("*.png"))


class Shrinking(FakeGenerator):
    """Out of memory after some images, with ever smaller batches; `enough` is the size that fits."""

    def __init__(self, *, enough: int, after: int) -> None:
        super().__init__()
        self.batch, self.enough, self.after = 8, enough, after

    def request(self, prompt, seed, **settings):  # type: ignore[no-untyped-def]
        return replace(super().request(prompt, seed, **settings), versions=f"fake=1;batch={self.batch}")

    def generate(self, requests):  # type: ignore[no-untyped-def]
        assert all(request.versions == f"fake=1;batch={self.batch}" for request in requests)
        for index, request in enumerate(requests):
            if self.batch > self.enough and index == self.after:
                self.batch //= 2
                raise BatchHalvedError(2 * self.batch, self.batch)
            yield from super().generate([request])


def test_smaller_batches_lose_no_image_and_store_each_under_its_own_key(store: ImageStore) -> None:
    generator = Shrinking(enough=2, after=3)
    panel = [generator.request("a", seed, guidance=2.0, negative_prompt="n") for seed in range(10)]
    small = replace(panel[9], versions="fake=1;batch=4")
    store.put(small, fake_image(small))
    seen: list[int] = []
    images = fetch(store, generator, panel, on_image=lambda image, _: seen.append(image.request.seed))
    assert [image.request.versions[-1] for image in images] == list("8884442224")
    assert [replace(image.request, versions=panel[0].versions) for image in images] == panel
    assert all(_same(image.load(), fake_image(image.request)) for image in images)
    assert sorted(seen) == list(range(10))
    assert len(generator.made) == 9


def test_generator_that_does_not_shrink_is_not_asked_for_ever(store: ImageStore) -> None:
    class Stuck(FakeGenerator):
        def generate(self, requests):  # type: ignore[no-untyped-def]
            raise BatchHalvedError(2, 1)
            yield

    generator = Stuck()
    with pytest.raises(BatchHalvedError):
        fetch(store, generator, [generator.request("a", 1)])
