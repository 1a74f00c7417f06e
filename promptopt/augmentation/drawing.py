"""Images of requests, chunk by chunk, in their order, while their makers go ahead; nothing is stored."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator as Gen
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from generators.fetching import make_missing
from generators.store import StoredImage
from promptopt.augmentation.pictures import Picture

if TYPE_CHECKING:
    from PIL import Image

    from generators.bad_images import BadImage
    from generators.base import Generator
    from generators.engine import ImageEngine, Made
    from generators.request import ImageRequest

T = TypeVar("T")
Drawn = tuple["ImageRequest", Picture | None]
"""An image with the request it was made by; None where it came out black or not finite."""

AHEAD = 1024
"""Images that others may be making or have made before they are looked at."""
_THREADS = min(4, os.cpu_count() or 1)


def draw_chunks(
    generator: Generator, chunks: Iterable[Sequence[ImageRequest]]
) -> Gen[list[Drawn], None, None]:
    """Each chunk's images, one for each request, in the order of chunks and requests.

    They are made in another thread, or by other processes or machines, while the caller is busy with earlier
    chunks. Where memory runs out on the way, the batch is halved and an image comes with the request it was
    made by.

    Args:
        chunks: of distinct requests; read ahead.

    Raises:
        GeneratorError: as the generator does, after all chunks that are whole.
    """
    elsewhere = getattr(generator, "scratch_engine", None)
    engine: ImageEngine | None = None if elsewhere is None else elsewhere()
    stopped = threading.Event()
    if engine is None:
        source: Gen[list[Drawn], None, None] = (draw(generator, chunk, stopped) for chunk in chunks)
    else:
        source = _elsewhere(engine, chunks, stopped)
    return _beside(source, stopped)


def draw(generator: Generator, requests: Sequence[ImageRequest], stopped: threading.Event) -> list[Drawn]:
    """One image for each request, made in this process and held in memory; fewer where it was stopped."""
    made: dict[ImageRequest, Image.Image] = {}
    lock = threading.Lock()

    def put(request: ImageRequest, image: Image.Image) -> StoredImage:
        with lock:
            made[request] = image
        return StoredImage(request=request, path=Path(), sha256="")

    distinct = list(dict.fromkeys(requests))
    images = make_missing(generator, distinct, get=lambda _: None, put=put, on_bad=lambda _: None)
    used = {one.asked: one.image.request for one in takewhile(lambda _: not stopped.is_set(), images)}
    return [(used.get(r, r), Picture(made[used[r]]) if r in used else None) for r in requests]


def _elsewhere(
    engine: ImageEngine, chunks: Iterable[Sequence[ImageRequest]], stopped: threading.Event
) -> Gen[list[Drawn], None, None]:
    """Chunks as they are whole, in their order; an image's file is read as it is, and removed."""
    asked: deque[list[ImageRequest]] = deque()
    arrived: dict[ImageRequest, Made | None] = {}

    def read_ahead() -> Iterator[ImageRequest]:
        for chunk in chunks:
            asked.append(list(chunk))
            yield from chunk

    def on_bad(image: BadImage) -> None:
        arrived[image.request] = None

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="take") as pool:

        def whole() -> Iterator[list[Drawn]]:
            while asked and all(request in arrived for request in asked[0]):
                requests = asked.popleft()
                yield list(pool.map(_taken, requests, [arrived.pop(request) for request in requests]))

        for made in engine.make(read_ahead(), ahead=AHEAD, on_bad=on_bad):
            if stopped.is_set():
                return
            arrived[made.asked] = made
            yield from whole()
        yield from whole()  # what waited for bad ones


def _taken(request: ImageRequest, made: Made | None) -> Drawn:
    if made is None:
        return request, None
    stored = made.image
    picture = Picture(content=stored.content(), name=str(stored.path), features=made.features)
    stored.path.unlink()
    stored.path.with_suffix(".json").unlink()
    return stored.request, picture


def _beside(source: Gen[T, None, None], stopped: threading.Event) -> Gen[T, None, None]:
    """What `source` gives, the next of it being made in another thread. Raises what it does."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    future = pool.submit(next, source, None)
    try:
        while (value := future.result()) is not None:
            future = pool.submit(next, source, None)
            yield value
    finally:
        stopped.set()
        pool.shutdown(wait=True)
        source.close()
