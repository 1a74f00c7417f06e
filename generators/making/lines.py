"""Two processes that talk through files of JSON lines on a disk that both see.

Each file has one writer. It is opened anew for every line and for every look, as network file systems show
what another machine wrote when a file is opened.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

BEAT = 20.0
"""Seconds between signs of life."""


class Outbox:
    """The end that writes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "lines"
        >>> out, back = Outbox(path), Inbox(path)
        >>> out.send({"ready": True})
        >>> back.read()
        [{'ready': True}]
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.touch(exist_ok=True)

    def send(self, message: Any) -> None:
        """One more line."""
        with self._lock, self._path.open("a", encoding="ascii") as stream:
            stream.write(json.dumps(message) + "\n")


class Inbox:
    """The end that reads.

    Attributes:
        heard: when something was last read, on `time.monotonic`'s clock; None before it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.heard: float | None = None

    def read(self) -> list[Any]:
        """What is new, signs of life left out; half a line is left for later."""
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        if not whole:
            return []
        self._offset += len(whole)
        self.heard = time.monotonic()
        return [message for line in whole.splitlines() if (message := json.loads(line)) is not None]


class Beat:
    """A thread that sends signs of life, `null`, until it is stopped."""

    def __init__(self, boxes: Callable[[], list[Outbox]]) -> None:
        self._boxes = boxes
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """No more of them."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(BEAT):
            for box in self._boxes():
                with suppress(OSError):  # a disk that is full or away for a while: silence is the sign
                    box.send(None)
