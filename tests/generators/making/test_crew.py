"""The engine over any kind of workers: replacements, refusals, bad and deadly images. Workers are fakes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest

from generators import BadImageError, GeneratorError, ImageRequest, ImageStore, StoreError
from generators.errors import LostWorkersError
from generators.making.crew import CrewEngine, Ended, Message
from generators.making.spec import MakerSpec
from tests.promptopt.fakes import SquareGenerator

GENERATOR = SquareGenerator()
SPEC = MakerSpec(generators=(("squares", GENERATOR.fingerprint),), device="cpu", chunk=3, store="store")


class FakeCrew:
    """Workers without delay: `fate` is what becomes of a request (None: made), `loading` of a worker."""

    def __init__(
        self,
        store: ImageStore,
        fate: Callable[[ImageRequest], Message | None] = lambda _: None,
        loading: Callable[[int], Message] = lambda _: {"ready": True},
    ) -> None:
        self.store, self.fate, self.loading = store, fate, loading
        self.started = self.closed = 0
        self.said: deque[tuple[Hashable, Message]] = deque()

    def start(self) -> Hashable:
        self.started += 1
        self.said.append((self.started, self.loading(self.started)))
        return self.started

    def send(self, worker: Hashable, chunk: list[ImageRequest]) -> None:
        for request in chunk:
            fate = self.fate(request)
            if fate is None:
                (picture,) = GENERATOR.generate([request])
                stored = self.store.put(request, picture)
                fate = {"image": request.key, "sha256": stored.sha256, "new": True}
            self.said.append((worker, fate))
            if isinstance(fate, Ended) or "failed" in fate:
                return
        self.said.append((worker, {"done": True}))

    def hear(self, timeout: float) -> tuple[Hashable, Message] | None:
        return self.said.popleft()

    def look_after(self) -> None:
        raise AssertionError("somebody always says something")

    def close(self) -> None:
        self.closed += 1
        self.said.clear()


def opened(tmp_path: Path, count: int = 2, **how: Any) -> tuple[CrewEngine, FakeCrew]:
    store = ImageStore(tmp_path)
    crew = FakeCrew(store, **how)
    return CrewEngine(crew, SPEC, count=count, store=store), crew


def asked(count: int) -> list[ImageRequest]:
    return [GENERATOR.request("red", seed) for seed in range(count)]


def test_all_images_come_and_the_workers_stay(tmp_path: Path) -> None:
    engine, crew = opened(tmp_path)
    made = list(engine.make(asked(8), ahead=8))
    assert sorted(one.asked.seed for one in made) == list(range(8))
    for one in made:
        assert hashlib.sha256(one.image.path.read_bytes()).hexdigest() == one.image.sha256
    list(engine.make(asked(2), ahead=8))
    assert (crew.started, crew.closed) == (2, 0)


def test_a_worker_that_ends_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unlucky = {2, 5}

    def fate(request: ImageRequest) -> Message | None:
        if request.seed in unlucky:
            unlucky.discard(request.seed)
            return Ended("was killed by signal 9")
        return None

    engine, crew = opened(tmp_path, fate=fate)
    made = list(engine.make(asked(9), ahead=9))
    assert sorted(one.asked.seed for one in made) == list(range(9))
    assert 3 <= crew.started <= 4
    assert "a worker was killed by signal 9; another one takes its place" in caplog.text


def test_a_request_that_ends_workers_is_reported_when_the_others_are_made(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, fate=lambda r: Ended("was killed by signal 9") if r.seed == 4 else None)
    made: list[Any] = []
    with pytest.raises(LostWorkersError, match=r"gave up 1 of 10 images.*others are made.*seed 4") as caught:
        made.extend(engine.make(asked(10), ahead=10))
    assert sorted(one.asked.seed for one in made) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [request.seed for request in caught.value.requests] == [4]


def test_workers_that_all_end_are_not_started_for_ever(tmp_path: Path) -> None:
    engine, crew = opened(tmp_path, loading=lambda _: Ended("was killed by signal 9"))
    with pytest.raises(LostWorkersError, match=r"8 workers in a row ended.*was killed by signal 9"):
        list(engine.make(asked(4), ahead=4))
    assert crew.started <= 10
    assert crew.closed == 1


def test_one_that_cannot_take_part_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused = {"failed": "this machine has a NVIDIA L4", "error": "GeneratorError"}
    engine, crew = opened(tmp_path, loading=lambda n: refused if n == 1 else {"ready": True})
    assert len(list(engine.make(asked(7), ahead=7))) == 7
    assert crew.started == 2
    assert "a worker cannot take part: this machine has a NVIDIA L4" in caplog.text
    engine, crew = opened(tmp_path / "none", loading=lambda _: refused)
    with pytest.raises(GeneratorError, match="NVIDIA L4"):
        list(engine.make(asked(2), ahead=2))
    assert crew.closed == 1


def test_what_every_worker_would_raise_is_raised(tmp_path: Path) -> None:
    full = {"failed": "store: the disk is full", "error": "StoreError"}
    engine, crew = opened(tmp_path, fate=lambda request: full if request.seed == 1 else None)
    with pytest.raises(StoreError, match="disk is full"):
        list(engine.make(asked(6), ahead=6))
    assert crew.closed == 1


def test_a_fault_of_one_machine_is_tried_on_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults = iter([{"failed": "RuntimeError: CUDA error: uncorrectable ECC error", "error": ""}])
    engine, crew = opened(tmp_path, fate=lambda r: next(faults, None) if r.seed == 1 else None)
    assert len(list(engine.make(asked(6), ahead=6))) == 6
    assert crew.started == 3
    assert "uncorrectable ECC error" in caplog.text


def test_bad_images_make_one_error_at_the_end(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, fate=lambda r: {"bad": [[r.key, "black"]]} if r.seed in (2, 7) else None)
    made: list[Any] = []
    with pytest.raises(BadImageError, match="2 of 20 images are bad") as caught:
        made.extend(engine.make(asked(20), ahead=20))
    assert len(made) == 18
    assert caught.value.counts == {"black": 2}


def test_a_model_that_makes_bad_images_alone_is_stopped_early(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, fate=lambda r: {"bad": [[r.key, "black"]]})
    with pytest.raises(BadImageError) as caught:
        list(engine.make(asked(300), ahead=300))
    assert caught.value.made < 20


def test_a_caller_that_goes_away_ends_the_workers(tmp_path: Path) -> None:
    engine, crew = opened(tmp_path)
    images = engine.make(asked(9), ahead=9)
    next(images)
    images.close()
    assert crew.closed == 1
    assert len(list(engine.make(asked(9), ahead=9))) == 9
