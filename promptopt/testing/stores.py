"""What every store of images must do, wherever it keeps them."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators import GeneratorError, ImageRequest, ImageStore, StoreError, fetch, load
from generators.base import Generator
from generators.store import Store

Open = Callable[[str], Store]

ODD = ("a b", "ü 漢", "50% [x]", "#1+2&3", "it's")
"""Prefixes that are legal names and break whoever quotes, expands or decodes them."""


class StoreSuite:
    """Tests of a `generators.store.Store`.

    Override the fixtures `open_store`, a function that opens the store of a name as another machine would,
    with nothing kept from before, and `spoil`, which damages what is stored of a request. Where a put has
    several steps, override `break_put` too: it lets the next put end between them, as a kill would.

    Example:
        >>> class TestMine(StoreSuite):
        ...     @pytest.fixture
        ...     def open_store(self):
        ...         return lambda name: MyStore(f"mine://bucket/{name}")
    """

    @pytest.fixture
    def open_store(self) -> Open:
        """Opens the store of a name."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `open_store`")

    @pytest.fixture
    def spoil(self) -> Callable[[str, ImageRequest], None]:
        """Damages what is stored of a request in the store of a name."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `spoil`")

    @pytest.fixture
    def break_put(self) -> Callable[[], None]:
        """Ends the next put between two steps, by an exception."""
        pytest.skip("no `break_put`: a put is one step")

    @pytest.fixture
    def name(self) -> str:
        """Of a store that no other test uses."""
        return f"store-{uuid.uuid4().hex}"

    @pytest.fixture(scope="class")
    def generator(self) -> Generator:
        """Whose images are stored; it makes none."""
        return load("embedded", device="cpu", batch_size=2)

    def asked(self, generator: Generator, count: int) -> list[ImageRequest]:
        """So many requests, one with letters of all kinds."""
        return [generator.request(f"a polyp é 漢 \n {seed}", seed, steps=2) for seed in range(count)]

    def put(self, store: Store, requests: list[ImageRequest]) -> None:
        """Store the requests' images, as `fetch` would."""
        for request in requests:
            store.put(request, picture(request))
        store.flush()

    def test_bytes_are_those_of_a_folder_store(
        self, open_store: Open, name: str, generator: Generator, tmp_path: Path
    ) -> None:
        first, second, third = self.asked(generator, 3)
        self.put(open_store(name), [first, second])
        there = open_store(name)
        for request in (first, second):
            own = ImageStore(tmp_path / "folder").put(request, picture(request))
            found = there.get(request)
            assert found is not None
            assert found.path.read_bytes() == own.path.read_bytes()
            assert (found.request, found.sha256) == (request, own.sha256)
            assert found.load().tobytes() == picture(request).tobytes()
        assert there.get(third) is None
        assert [one and one.request for one in there.get_many([third, second, first])] == [
            None, second, first,
        ]  # fmt: skip

    def test_listing(self, open_store: Open, name: str, generator: Generator) -> None:
        requests = self.asked(generator, 24)
        store = open_store(name)
        assert store.has_many(requests) == set()
        self.put(store, requests[::2])
        for one in (store, open_store(name)):
            assert one.has_many(iter(requests)) == set(requests[::2])
            assert one.has_many([]) == set()
            assert one.has(requests[0])
            assert not one.has(requests[1])

    @pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel does not count bytes read")
    def test_looking_reads_no_picture(self, open_store: Open, name: str, generator: Generator) -> None:
        requests = self.asked(generator, 24)
        self.put(open_store(name), requests)
        store = open_store(name)
        store.has_many(requests[:1])  # whatever is opened once
        before = _bytes_read()
        assert store.has_many(requests) == set(requests)
        looking = _bytes_read() - before
        pictures = sum(found.path.stat().st_size for found in store.get_many(requests) if found is not None)
        assert looking < pictures / 2

    def test_what_is_damaged_is_named_and_made_again(
        self,
        open_store: Open,
        name: str,
        generator: Generator,
        spoil: Callable[[str, ImageRequest], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        good, bad = self.asked(generator, 2)
        self.put(open_store(name), [good, bad])
        spoil(name, bad)
        with caplog.at_level(logging.WARNING):
            assert open_store(name).get(bad) is None
        assert bad.key in caplog.text
        assert "made again" in caplog.text
        assert open_store(name).get(good) is not None
        news: list[bool] = []
        fetch(open_store(name), generator, [good, bad], on_image=lambda _, new: news.append(new))
        assert sorted(news) == [False, True]
        found = open_store(name).get(bad)
        assert found is not None
        assert found.request == bad

    def test_writers_of_one_key_do_no_harm(self, open_store: Open, name: str, generator: Generator) -> None:
        (request,) = self.asked(generator, 1)

        def work(store: Store) -> None:
            for _ in range(5):
                self.put(store, [request])

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, [open_store(name) for _ in range(3)]))
        found = open_store(name).get(request)
        assert found is not None
        assert found.load().tobytes() == picture(request).tobytes()

    def test_a_put_that_is_cut_short_leaves_nothing_that_counts(
        self, open_store: Open, name: str, generator: Generator, break_put: Callable[[], None]
    ) -> None:
        before, request = self.asked(generator, 2)
        store = open_store(name)
        self.put(store, [before])
        break_put()
        with pytest.raises((StoreError, KeyboardInterrupt)):
            self.put(store, [request])
        later = open_store(name)
        assert later.has_many([before, request]) == {before}
        assert later.get(request) is None
        self.put(later, [request])
        assert open_store(name).get(request) is not None

    def test_an_image_of_another_size_is_refused(
        self, open_store: Open, name: str, generator: Generator
    ) -> None:
        (request,) = self.asked(generator, 1)
        store = open_store(name)
        with pytest.raises(GeneratorError, match="asks for 64x64"):
            store.put(request, Image.new("RGB", (9, 8)))
        store.flush()
        assert not open_store(name).has(request)

    @pytest.mark.parametrize("odd", ODD)
    def test_odd_names(self, open_store: Open, name: str, generator: Generator, odd: str) -> None:
        requests = self.asked(generator, 2)
        self.put(open_store(f"{name}/{odd}"), requests[:1])
        there = open_store(f"{name}/{odd}")
        assert there.has_many(requests) == {requests[0]}
        assert there.get(requests[0]) is not None

    def test_made_elsewhere(self, open_store: Open, name: str, generator: Generator) -> None:
        here, (request,) = open_store(name), self.asked(generator, 1)
        elsewhere = open_store(name)
        self.put(elsewhere, [request])
        there = elsewhere.get(request)
        assert there is not None
        made = here.made(request, there.sha256)
        assert (made.request, made.sha256) == (request, there.sha256)
        assert made.load().tobytes() == picture(request).tobytes()


def picture(request: ImageRequest) -> Image.Image:
    """Noise that depends on the request alone."""
    rng = np.random.default_rng(int(request.key[:8], 16))
    return Image.fromarray(rng.integers(0, 256, (request.height, request.width, 3), dtype=np.uint8))


def _bytes_read() -> int:
    with os.fdopen(os.open("/proc/self/io", os.O_RDONLY)) as file:
        return int(file.readline().split()[1])
