"""One stored image for every request: what the store lacks is made, and no image lost to another's fault."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

from generators.bad_images import BadImage, BadImageError
from generators.engine import ImageEngine, Made
from generators.errors import BatchHalvedError, GeneratorError, StoreError
from generators.family import GeneratorFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from generators.base import Generator
    from generators.request import ImageRequest
    from generators.store import Store, StoredImage

logger = logging.getLogger(__name__)

WAITING = 64
"""Images that may wait to be written: two or more batches, so that a GPU is not kept waiting for a disk."""
_THREADS = min(4, os.cpu_count() or 1)
_FEW_BAD = 8


def fetch(
    store: Store,
    generator: Generator,
    requests: Sequence[ImageRequest],
    *,
    on_image: Callable[[StoredImage, bool], None] | None = None,
    on_features: Callable[[StoredImage, Mapping[str, NDArray[Any]]], None] | None = None,
) -> list[StoredImage]:
    """One stored image for every request, in their order; what is missing is generated.

    Equal requests are generated once. Images are encoded and written by threads beside the generation of
    the next ones. Whatever happens, every image that the generator gave is written before this returns or
    raises; only a process killed outright loses the few that wait (at most 64), and a run that is
    started again generates only what is still missing.

    Args:
        store: where they are kept.
        generator: makes the missing images, here or, where it has an `engine`, elsewhere.
        requests: any requests that this generator made.
        on_image: called in this thread, once for every entry of `requests`, with its stored image and
            whether it was generated now (False for stored ones and for repetitions); stored ones come
            first, then new ones in the order they were made.
        on_features: called with an image and `Made.features`, where it came with some.

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
    for request, found in zip(repeats, store.get_many(repeats), strict=True):
        if found is None:
            missing.append(request)
        else:
            arrived(request, found, False)
    try:
        if missing:
            for made in engine_of(generator, store).make(missing, ahead=len(missing)):
                if made.features and on_features is not None:
                    on_features(made.image, made.features)
                arrived(made.asked, made.image, made.new)
    except BaseException:
        with suppress(StoreError):  # the error that led here is the one to report
            store.flush()
        raise
    store.flush()
    return [stored[request] for request in requests]


class Here:
    """The engine of this process: its own generator makes the images."""

    def __init__(self, generator: Generator, store: Store) -> None:
        self.store = store
        self._generator = generator

    def make(
        self,
        requests: Iterable[ImageRequest],
        *,
        ahead: int,
        on_bad: Callable[[BadImage], None] | None = None,
    ) -> Iterator[Made]:
        """See `generators.engine.ImageEngine.make`. Raises what `make_missing` does."""
        rest = iter(requests)
        while part := list(islice(rest, max(1, ahead))):
            yield from make_missing(
                self._generator, part, get=self.store.get, put=self.store.put, on_bad=on_bad
            )

    def close(self) -> None:
        """Nothing runs that would have to end."""


def engine_of(generator: Generator, store: Store) -> ImageEngine:
    """Who makes a generator's images for a store: this process, unless the generator says another engine."""
    elsewhere = getattr(generator, "engine", None)
    found: ImageEngine | None = elsewhere(store) if elsewhere is not None else None
    return Here(generator, store) if found is None else found


def make_missing(
    generator: Generator,
    asked: Sequence[ImageRequest],
    *,
    get: Callable[[ImageRequest], StoredImage | None],
    put: Callable[[ImageRequest, Image.Image], StoredImage],
    on_bad: Callable[[BadImage], None] | None = None,
) -> Iterator[Made]:
    """Generates and stores one image for each of the distinct requests; gives them as they were made.

    A bad image does not keep the others from being made, and when the generator halves its batch, what is
    left is asked for anew under the requests of the smaller one.

    Args:
        generator: makes the images.
        asked: distinct requests.
        get: the stored image of a request, or None.
        put: stores an image; called from several threads at a time.
        on_bad: called with each bad image, by the request asked for, in place of the error.

    Raises:
        StoreError: as `put` and `get` do.
        GeneratorError: as the generator does, and when it gives another number of images than asked for.
        BadImageError: at the end, with all bad images; before it when more are bad than good.
    """
    waiting = {request: request for request in asked}  # what the generator is asked for -> what we were
    bad: list[BadImage] = []
    with _Writer(put) as writer:
        while waiting:
            # Equal settings side by side: a finished image never waits in memory for one of another batch.
            batch = sorted(waiting, key=sharing)
            try:
                yield from _make(generator, batch, waiting, writer)
            except BadImageError as error:
                dropped = [
                    (waiting.pop(image.request), image) for image in error.images if image.request in waiting
                ]
                if not dropped:
                    raise
                if on_bad is not None:
                    for original, image in dropped:
                        on_bad(BadImage(original, image.fault))
                    continue
                bad += [image for _, image in dropped]
                if len(bad) > max(_FEW_BAD, writer.added):
                    break
            except BatchHalvedError as error:
                logger.warning("%s", error)
                yield from writer.flush()
                waiting, there = _renewed(generator, waiting, error, get=get)
                yield from there
        yield from writer.flush()
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
) -> Iterator[Made]:
    made = 0
    for image in generator.generate(batch):
        if made == len(batch):
            raise GeneratorError(f"the generator gave more images than the {len(batch)} it was asked for")
        ready = writer.add(waiting.pop(batch[made]), batch[made], image)
        made += 1
        yield from ready
    if made < len(batch):
        raise GeneratorError(f"the generator gave {made} images, it was asked for {len(batch)}")


def _renewed(
    generator: Generator,
    waiting: dict[ImageRequest, ImageRequest],
    error: BatchHalvedError,
    *,
    get: Callable[[ImageRequest], StoredImage | None],
) -> tuple[dict[ImageRequest, ImageRequest], list[Made]]:
    """The same images asked for anew, without those that the store has under the new requests; and these."""
    left: dict[ImageRequest, ImageRequest] = {}
    there: list[Made] = []
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
            there.append(Made(asked, found, False))
    if not changed:
        raise error  # it would run out of memory for ever
    return left, there


class _Writer:
    """Stores images in threads, a bounded number at a time, and gives them back in their order.

    On leaving, also by an exception, every image that was added has been written.
    """

    def __init__(self, put: Callable[[ImageRequest, Image.Image], StoredImage]) -> None:
        self.added = 0
        self._put = put
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="image-store")
        self._queue: deque[tuple[ImageRequest, Future[StoredImage]]] = deque()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        failures = [future.exception() for _, future in self._queue]
        if failed := [failure for failure in failures if failure is not None]:
            logger.warning("%d more images could not be stored: %s", len(failed), failed[0])

    def add(self, asked: ImageRequest, request: ImageRequest, image: Image.Image) -> Iterator[Made]:
        """Hands an image to the threads; those that are stored by now, once it is asked for them.

        Asking waits while too many are waiting, and raises what storing raised.
        """
        self._queue.append((asked, self._pool.submit(self._put, request, image)))
        self.added += 1
        return self._stored(lambda: self._queue[0][1].done() or len(self._queue) >= WAITING)

    def flush(self) -> Iterator[Made]:
        """Waits for all that was added, and gives it. Raises what storing raised."""
        return self._stored(lambda: True)

    def _stored(self, ready: Callable[[], bool]) -> Iterator[Made]:
        while self._queue and ready():
            asked, future = self._queue.popleft()
            yield Made(asked, future.result(), True)
