"""Images made by several processes: the same bytes, sooner.

Each process loads the generator by its address and writes into the shared image store. An image depends on
its request alone, so who makes it does not matter.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config import StudyError

if TYPE_CHECKING:
    from generators.request import ImageRequest
    from generators.store import ImageStore
    from promptopt.setup import Setup

_CHUNK = 8  # requests handed to a process at a time, where the generator has no batch of its own


class Workers:
    """Processes with the generator of a study, started when first needed.

    Args:
        count: how many.
    """

    def __init__(self, setup: Setup, count: int) -> None:
        self._setup = setup
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def make(self, requests: Sequence[ImageRequest], store: ImageStore) -> set[str]:
        """Make what the store lacks; returns the keys of the images made."""
        missing = [request for request in dict.fromkeys(requests) if store.get(request) is None]
        size = self._setup.config.generator.batch_size or _CHUNK
        if len(missing) <= size:
            return set()  # not worth the others: this process makes them
        self._pool = self._pool or self._start()
        chunks = [missing[i : i + size] for i in range(0, len(missing), size)]
        made: set[str] = set()
        for keys in self._pool.map(_make, chunks, [str(store.root)] * len(chunks)):
            made.update(keys)
        return made

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        for place in _devices(self._setup.device, self._count):
            places.put(place)
        own = self._setup.config.generator
        threads = max(1, (os.cpu_count() or 1) // self._count)
        return ProcessPoolExecutor(
            self._count,
            mp_context=context,
            initializer=_load,
            initargs=(self._setup.config.resolve(own.uri), places, own.batch_size, threads),
        )

    def close(self) -> None:
        """Stop the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def check_workers(workers: int, *, own_generator: bool) -> None:
    """Raise a StudyError where several processes cannot be used."""
    if workers < 1:
        raise StudyError(f"workers is {workers}; give 1 or more.")
    if workers > 1 and own_generator:
        raise StudyError(
            f"workers is {workers}, but the generator was given as an object, which other processes cannot "
            "load. Name it by its address in the study, or use one worker."
        )


def _devices(device: str, workers: int) -> list[str]:
    """One device a process: the GPUs in turn where there are several."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return [f"cuda:{i % count}" for i in range(workers)] if count else [device] * workers


_generator: Any = None


def _load(uri: str, places: Any, batch_size: int | None, threads: int) -> None:
    global _generator
    import torch

    from generators.backend import load

    torch.set_num_threads(threads)
    _generator = load(uri, device=places.get(), batch_size=batch_size)


def _make(requests: Sequence[ImageRequest], root: str) -> list[str]:
    from generators.store import ImageStore

    made: list[str] = []
    ImageStore(Path(root)).fetch(
        _generator, requests, on_image=lambda image, new: made.append(image.request.key) if new else None
    )
    return made
