"""One stored image for every request: what the store lacks is made, and no image lost to another's fault."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

from generators.bad_images import BadImage, BadImageError
from generators.errors import BatchHalvedError, GeneratorError
from generators.family import GeneratorFamily

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator
    from generators.request import ImageRequest
    from generators.store import ImageStore, StoredImage

logger = logging.getLogger(__name__)

WAITING = 64
"""Images that may wait to be written: two or more batches, so that a GPU is not kept waiting for a disk."""
_THREADS = min(4, os.cpu_count() or 1)
_FEW_BAD = 8

Arrived = Callable[["ImageRequest", "StoredImage", bool], None]
"""Called with the request asked for, its stored image, and whether it was generated now."""


def fetch(
    store: ImageStore,
    generator: Generator,
    requests: Sequence[ImageRequest],
    *,
    on_image: Callable[[StoredImage, bool], None] | None = None,
) -> list[StoredImage]:
    """One stored image for every request, in their order; what is missing is generated.

    Equal requests are generated once. Images are encoded and written by threads beside the generation of
    the next ones. Whatever happens, every image that the generator gave is written before this returns or
    raises; only a process killed outright loses the few that wait (at most 64), and a run that is
    started again generates only what is still missing.

    Args:
        store: where they are kept.
        generator: makes the missing images.
        requests: any requests that this generator made.
        on_image: called in this thread, once for every entry of `requests`, with its stored image and
            whether it was generated now (False for stored ones and for repetitions); stored ones come
            first, then new ones in the order they were made.

    Returns:
        the images in the order of `requests`. Where memory ran out on the way, later ones carry a
        `request` of their own: the one asked for, made anew for the smaller batch.

    Raises:
        StoreError: the store cannot be read or written.
        GeneratorError: the generator refuses a request, or gives another number of images than asked for.
        BadImageError: some images came out black or not finite. The others have all been stored, unless
            bad ones were in the majority.
    """
    repeats = Counter(requests)
    stored: dict[ImageRequest, StoredImage] = {}

    def arrived(asked: ImageRequest, image: StoredImage, new: bool) -> None:
        stored[asked] = image
        if on_image is not None:
            for copy in range(repeats[asked]):
                on_image(image, new and copy == 0)

    missing: list[ImageRequest] = []
    for request in repeats:
        found = store.get(request)
        if found is None:
            missing.append(request)
        else:
            arrived(request, found, False)
    if missing:
        make_missing(generator, missing, get=store.get, put=store.put, arrived=arrived)
    return [stored[request] for request in requests]


def make_missing(
    generator: Generator,
    asked: Sequence[ImageRequest],
    *,
    get: Callable[[ImageRequest], StoredImage | None],
    put: Callable[[ImageRequest, Image.Image], StoredImage],
    arrived: Arrived,
) -> None:
    """Generates and stores one image for each of the distinct requests.

    A bad image does not keep the others from being made, and when the generator halves its batch, what is
    left is asked for anew under the requests of the smaller one.

    Args:
        generator: makes the images.
        asked: distinct requests.
        get: the stored image of a request, or None.
        put: stores an image; called from several threads at a time.
        arrived: called in this thread, in the order of generation.

    Raises:
        StoreError: as `put` and `get` do.
        GeneratorError: as the generator does, and when it gives another number of images than asked for.
        BadImageError: at the end, with all bad images; before it when more are bad than good.
    """
    waiting = {request: request for request in asked}  # what the generator is asked for -> what we were
    bad: list[BadImage] = []
    with _Writer(put, arrived) as writer:
        while waiting:
            # Equal settings side by side: a finished image never waits in memory for one of another batch.
            batch = sorted(waiting, key=sharing)
            try:
                _make(generator, batch, waiting, writer)
            except BadImageError as error:
                dropped = [image for image in error.images if waiting.pop(image.request, None) is not None]
                if not dropped:
                    raise
                bad += dropped
                if len(bad) > max(_FEW_BAD, writer.added):
                    break
            except BatchHalvedError as error:
                logger.warning("%s", error)
                writer.flush()
                waiting = _renewed(generator, waiting, error, get=get, arrived=arrived)
    if bad:
        raise BadImageError(bad, made=writer.added + len(bad))


def sharing(request: ImageRequest) -> tuple[object, ...]:
    """What requests of one batch have in common; to sort by."""
    r = request
    return r.generator, r.width, r.height, r.steps, r.guidance, r.scheduler


def _make(
    generator: Generator,
    batch: list[ImageRequest],
    waiting: dict[ImageRequest, ImageRequest],
    writer: _Writer,
) -> None:
    made = 0
    for image in generator.generate(batch):
        if made == len(batch):
            raise GeneratorError(f"the generator gave more images than the {len(batch)} it was asked for")
        writer.add(waiting[batch[made]], batch[made], image)
        del waiting[batch[made]]
        made += 1
    if made < len(batch):
        raise GeneratorError(f"the generator gave {made} images, it was asked for {len(batch)}")


def _renewed(
    generator: Generator,
    waiting: dict[ImageRequest, ImageRequest],
    error: BatchHalvedError,
    *,
    get: Callable[[ImageRequest], StoredImage | None],
    arrived: Arrived,
) -> dict[ImageRequest, ImageRequest]:
    """The same images asked for anew; those that the store has under the new requests arrive at once."""
    left: dict[ImageRequest, ImageRequest] = {}
    changed = False
    for old, asked in waiting.items():
        maker = generator.maker(old) if isinstance(generator, GeneratorFamily) else generator
        new = maker.request(
            old.prompt,
            old.seed,
            negative_prompt=old.negative_prompt,
            steps=old.steps,
            guidance=old.guidance,
            scheduler=old.scheduler,
            width=old.width,
            height=old.height,
        )
        changed = changed or new != old
        found = get(new)
        if found is None:
            left[new] = asked
        else:
            arrived(asked, found, False)
    if not changed:
        raise error  # it would run out of memory for ever
    return left


class _Writer:
    """Stores images in threads, a bounded number at a time, and reports them in the order they were added.

    On leaving, also by an exception, every image that was added has been written.
    """

    def __init__(self, put: Callable[[ImageRequest, Image.Image], StoredImage], arrived: Arrived) -> None:
        self.added = 0
        self._put = put
        self._arrived = arrived
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="image-store")
        self._queue: deque[tuple[ImageRequest, Future[StoredImage]]] = deque()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._pool.shutdown(wait=True)
            failures = [future.exception() for _, future in self._queue]
            if failed := [failure for failure in failures if failure is not None]:
                logger.warning("%d more images could not be stored: %s", len(failed), failed[0])

    def add(self, asked: ImageRequest, request: ImageRequest, image: Image.Image) -> None:
        """Hands an image to the threads; waits while too many are waiting. Raises what storing raised."""
        self._queue.append((asked, self._pool.submit(self._put, request, image)))
        self.added += 1
        while self._queue and (self._queue[0][1].done() or len(self._queue) >= WAITING):
            self._report()

    def flush(self) -> None:
        """Waits for all that was added, and reports it. Raises what storing raised."""
        while self._queue:
            self._report()

    def _report(self) -> None:
        asked, future = self._queue.popleft()
        self._arrived(asked, future.result(), True)
