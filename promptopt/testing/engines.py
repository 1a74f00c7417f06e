"""What every engine that makes images must do, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from generators import GeneratorError, ImageRequest, ImageStore, fetch, load
from generators.base import Generator
from generators.engine import ImageEngine

Open = Callable[[ImageStore], ImageEngine]


class EngineSuite:
    """Tests of a `generators.engine.ImageEngine` that makes the embedded generator's images on the CPU.

    Override the fixture `open_engine`: a function that opens an engine for a store. Where the engine has
    workers that may end, override `kill_one` too: a function that ends one, by force.

    Attributes:
        batch_size: images a forward pass, of the engine's generator; 2 by default.

    Example:
        >>> class TestMine(EngineSuite):
        ...     @pytest.fixture(scope="class")
        ...     def open_engine(self):
        ...         return lambda store: MyEngine("embedded", batch_size=2, store=store)
    """

    batch_size: ClassVar[int] = 2

    @pytest.fixture(scope="class")
    def open_engine(self) -> Open:
        """Opens an engine for a store."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `open_engine`")

    @pytest.fixture(scope="class")
    def kill_one(self) -> Callable[[], None]:
        """Ends a worker by force; called while the engine makes images."""
        pytest.skip("no `kill_one`: the engine has no workers that could end")

    @pytest.fixture(scope="class")
    def generator(self) -> Generator:
        """The generator whose images are asked for, in this process."""
        return load("embedded", device="cpu", batch_size=self.batch_size)

    @pytest.fixture(scope="class")
    def engine(self, open_engine: Open, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageEngine]:
        """An engine with an empty store, closed at the end."""
        opened = open_engine(ImageStore(tmp_path_factory.mktemp("engine") / "store"))
        yield opened
        opened.close()

    def asked(self, generator: Generator, count: int, prompt: str = "a polyp") -> list[ImageRequest]:
        """So many requests, with and without guidance."""
        return [
            generator.request(f"{prompt} {seed}", seed, steps=2, guidance=(1.0, 4.0)[seed % 2])
            for seed in range(count)
        ]

    def test_images_are_the_bytes_that_this_process_makes(
        self, engine: ImageEngine, generator: Generator, tmp_path: Path
    ) -> None:
        requests = self.asked(generator, 7)
        made = list(engine.make(iter(requests), ahead=3))
        assert sorted(one.asked.key for one in made) == sorted(request.key for request in requests)
        assert all(one.new for one in made)
        for alone in fetch(ImageStore(tmp_path), generator, requests):
            there = engine.store.get(alone.request)
            assert there is not None
            assert there.path.read_bytes() == alone.path.read_bytes()
            (found,) = [one for one in made if one.asked == alone.request]
            assert (found.image.path, found.image.sha256) == (there.path, there.sha256)

    def test_nothing_to_make(self, engine: ImageEngine) -> None:
        assert list(engine.make([], ahead=8)) == []

    def test_requests_are_read_as_they_are_needed(self, engine: ImageEngine, generator: Generator) -> None:
        read = 0

        def one_by_one() -> Iterator[ImageRequest]:
            nonlocal read
            for request in self.asked(generator, 12, "read"):
                read += 1
                yield request

        taken = 0
        for _ in engine.make(one_by_one(), ahead=self.batch_size):
            taken += 1
            assert read <= taken + 2 * self.batch_size
        assert taken == read == 12

    def test_a_worker_that_is_killed_costs_no_image_and_no_byte(
        self,
        engine: ImageEngine,
        generator: Generator,
        kill_one: Callable[[], None],
        tmp_path: Path,
    ) -> None:
        requests = self.asked(generator, 12, "killed")
        made = []
        for one in engine.make(requests, ahead=12):
            made.append(one)
            if len(made) == 2:
                kill_one()
        assert sorted(one.asked.key for one in made) == sorted(request.key for request in requests)
        for alone in fetch(ImageStore(tmp_path), generator, requests[::3]):
            assert engine.store.path(alone.request).read_bytes() == alone.path.read_bytes()

    def test_what_the_generator_refuses_is_said_and_the_engine_goes_on(
        self, engine: ImageEngine, generator: Generator
    ) -> None:
        other = load("embedded", device="cpu", batch_size=self.batch_size + 1)
        with pytest.raises(GeneratorError, match=f"batch={self.batch_size + 1}"):
            list(engine.make(self.asked(other, 1, "foreign"), ahead=8))
        engine.close()
        requests = self.asked(generator, 1, "again")
        assert {one.asked for one in engine.make(requests, ahead=8)} == set(requests)
