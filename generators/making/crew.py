"""An engine over any kind of workers: hands out chunks, gathers images, replaces workers that end."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from generators.bad_images import BadImage, BadImageError
from generators.engine import Made
from generators.errors import GeneratorError, LostWorkersError, StoreError
from generators.making.queue import WorkQueue
from generators.making.spec import MakerSpec
from generators.request import ImageRequest
from generators.store import Store

logger = logging.getLogger(__name__)

_FEW = 8  # bad or deadly requests that do not stop the others, however many these are
_LOOK = 5.0  # seconds without a word until the crew looks after its workers


@dataclass(frozen=True)
class Ended:
    """A worker is no more. `why` completes the sentence "a worker ..."."""

    why: str


Message = Mapping[str, Any] | Ended
"""{"ready"}, {"image", "sha256", "new", "features"}, {"bad"}, {"done"}, {"failed", "error"}, or the end."""


class Crew(Protocol):
    """Workers of one kind: local processes, Ray actors. A worker is any hashable value."""

    def start(self) -> Hashable:
        """One more worker; what it says first is that it is ready, or that it failed."""
        ...

    def send(self, worker: Hashable, chunk: list[ImageRequest]) -> None:
        """Give a worker a chunk to make."""
        ...

    def hear(self, timeout: float) -> tuple[Hashable, Message] | None:
        """The next word of any worker; None when none says anything for so many seconds."""
        ...

    def look_after(self) -> None:
        """Called when nobody has said anything for a while."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class CrewEngine:
    """`generators.engine.ImageEngine` by a crew of makers.

    Workers are started when first needed. One that ends is replaced, and what it had in its hands is handed
    out again; one that fails to load, or is refused, is not.

    Args:
        crew: starts and hears them.
        spec: what they were told.
        count: how many work side by side.
    """

    def __init__(self, crew: Crew, spec: MakerSpec, *, count: int, store: Store) -> None:
        self.store = store
        self._crew = crew
        self._size = spec.chunk
        self._wanted = self._count = count
        self._idle: set[Hashable] = set()
        self._loading: set[Hashable] = set()
        self._busy: set[Hashable] = set()
        self._ends = 0  # workers that ended since the last image

    def make(
        self,
        requests: Iterable[ImageRequest],
        *,
        ahead: int,
        on_bad: Callable[[BadImage], None] | None = None,
    ) -> Iterator[Made]:
        """See `generators.engine.ImageEngine.make`."""
        queue = WorkQueue(requests, size=self._size, ahead=ahead)
        bad: list[BadImage] = []
        good = 0
        try:
            while self._hand_out(queue):
                heard = self._crew.hear(_LOOK)
                if heard is None:
                    self._crew.look_after()
                    continue
                worker, said = heard
                if isinstance(said, Ended):
                    self._ended(worker, said.why, queue)
                elif "image" in said:
                    self._ends = 0
                    if (asked := queue.finish(worker, said["image"])) is not None:
                        good += 1
                        yield self._made(asked, said)
                elif "bad" in said:
                    for key, fault in said["bad"]:
                        if (asked := queue.finish(worker, key)) is not None:
                            (on_bad or bad.append)(BadImage(asked, fault))
                    if len(bad) > max(_FEW, good):
                        queue.stop()  # most are bad, so the rest is not worth its time
                elif "failed" in said:
                    self._failed(worker, said, queue)
                else:
                    if "done" in said:
                        queue.done(worker)
                    self._forget(worker)
                    self._idle.add(worker)
        except BaseException:
            self.close()
            raise
        if bad:
            raise BadImageError(bad, made=good + len(bad))
        if queue.given_up:
            raise _deadly(queue.given_up, good)

    def close(self) -> None:
        """End the workers; what they have made is in the store."""
        self._idle, self._loading, self._busy = set(), set(), set()
        self._count, self._ends = self._wanted, 0
        self._crew.close()

    def _hand_out(self, queue: WorkQueue) -> bool:
        """Give the idle something to do, and start who is missing; whether anything is left to wait for."""
        while self._idle and (chunk := queue.take(worker := min(self._idle, key=str))):
            self._idle.discard(worker)
            self._busy.add(worker)
            self._crew.send(worker, chunk)
        if not queue.open:
            return False
        while (
            not self._idle
            and len(self._busy) + len(self._loading) < self._count
            and len(self._loading) < queue.chunks
        ):
            self._loading.add(self._crew.start())
        return True

    def _made(self, asked: ImageRequest, said: Mapping[str, Any]) -> Made:
        import numpy as np

        image = self.store.made(asked, said["sha256"])
        rows = {
            address: np.frombuffer(base64.b64decode(text), dtype="<f4")
            for address, text in said.get("features", {}).items()
        }
        return Made(asked, image, bool(said["new"]), rows)

    def _forget(self, worker: Hashable) -> None:
        for group in (self._idle, self._loading, self._busy):
            group.discard(worker)

    def _ended(self, worker: Hashable, why: str, queue: WorkQueue) -> None:
        if worker not in self._idle | self._loading | self._busy:
            return  # one that failed, and was let go
        self._forget(worker)
        given_up = len(queue.given_up)
        queue.ended(worker)
        self._ends = 0 if len(queue.given_up) > given_up else self._ends + 1
        if len(queue.given_up) > _FEW or self._ends > 3 * self._count + 1:
            raise LostWorkersError(
                f"{self._ends} workers in a row ended before they made an image (the last one {why}); see "
                "what they wrote, and whether memory suffices for so many"
            )
        logger.warning("a worker %s; another one takes its place", why)

    def _failed(self, worker: Hashable, said: Mapping[str, Any], queue: WorkQueue) -> None:
        loading = worker in self._loading
        kind = {one.__name__: one for one in (GeneratorError, StoreError)}.get(said["error"])
        if loading:
            # This machine cannot make them. Others may, so only the last one's failure is everybody's.
            self._forget(worker)
            self._count -= 1
            if self._count == 0:
                raise (kind or LostWorkersError)(said["failed"])
            logger.warning("a worker cannot take part: %s", said["failed"])
        elif kind is not None:
            raise kind(said["failed"])
        else:
            self._ended(worker, f"failed ({said['failed']})", queue)


def _deadly(requests: list[ImageRequest], good: int) -> LostWorkersError:
    first = requests[0]
    return LostWorkersError(
        f"gave up {len(requests)} of {len(requests) + good} images, as whoever was to make one ended, twice; "
        f"the others are made. The first has seed {first.seed}, {first.width}x{first.height} pixels and the "
        f"prompt {first.prompt!r}. Look for too little memory, or leave it out",
        requests=requests,
    )
