"""What is still to be made: handed out in chunks, taken back from workers that end, given up in the end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice

from generators.fetching import sharing
from generators.request import ImageRequest

DEADLY = 2
"""Workers that a request may end, being alone in their hands, until it is given up."""


class WorkQueue:
    """Requests on their way: waiting, in the hands of a worker, or done with.

    A chunk whose worker ends goes back, each request by itself: then it shows which of them, if any, ends
    workers. One that does so twice is given up, and the others are made.

    Args:
        requests: distinct ones, read as they are needed.
        size: of a chunk.
        ahead: requests that wait or are in hands, at most; a chunk is handed out whole all the same.
    """

    def __init__(self, requests: Iterable[ImageRequest], *, size: int, ahead: int) -> None:
        self._rest: Iterator[ImageRequest] = iter(requests)
        self._size = size
        self._ahead = max(size, ahead)
        self._waiting: deque[list[ImageRequest]] = deque()
        self._hands: dict[Hashable, dict[str, ImageRequest]] = {}
        self._alone: set[Hashable] = set()
        self._deaths: Counter[str] = Counter()
        self.given_up: list[ImageRequest] = []

    def take(self, worker: Hashable) -> list[ImageRequest]:
        """The next chunk, now in this worker's hands; empty when nothing waits."""
        self._read()
        if not self._waiting:
            return []
        chunk = self._waiting.popleft()
        self._hands[worker] = {request.key: request for request in chunk}
        if len(chunk) == 1:
            self._alone.add(worker)
        return chunk

    def finish(self, worker: Hashable, key: str) -> ImageRequest | None:
        """The request of that key is done with, made or bad; None where the worker does not have it."""
        return self._hands[worker].pop(key, None)

    def done(self, worker: Hashable) -> None:
        """The worker is through with its chunk; what it left out counts as if the worker had ended of it."""
        self.ended(worker)

    def ended(self, worker: Hashable) -> None:
        """The worker is no more, and neither may be what it had in its hands."""
        if worker in self._alone:
            for key, request in list(self._hands[worker].items()):
                self._deaths[key] += 1
                if self._deaths[key] >= DEADLY:
                    self.given_up.append(request)
                    del self._hands[worker][key]
        self._put_back(worker)

    @property
    def chunks(self) -> int:
        """Chunks that wait."""
        return len(self._waiting)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._waiting.clear()
        self._rest = iter(())

    @property
    def open(self) -> bool:
        """Whether anything waits or is in hands."""
        self._read()
        return bool(self._waiting) or any(self._hands.values())

    def _put_back(self, worker: Hashable) -> None:
        self._alone.discard(worker)
        for request in reversed(self._hands.pop(worker, {}).values()):
            self._waiting.appendleft([request])

    def _read(self) -> None:
        room = self._ahead - sum(map(len, self._waiting)) - sum(map(len, self._hands.values()))
        if room < self._size and self._waiting:
            return
        found = sorted(islice(self._rest, max(room, 0)), key=sharing)
        self._waiting.extend(found[i : i + self._size] for i in range(0, len(found), self._size))
