"""What a training says while it runs: events for whoever watches, and a log of JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Where a stage is: ``step`` of ``steps`` are done. ``loss`` is a running mean, or None without one."""

    stage: str
    step: int
    steps: int
    loss: float | None
    images_per_second: float
    seconds_left: float


OnProgress = Callable[[Progress], None]


def throughput(done: int, total: int, begun: float, *, stage: str) -> Progress:
    """Progress of a stage without a loss: ``done`` of ``total`` images since ``begun`` (perf_counter)."""
    rate = done / max(1e-9, time.perf_counter() - begun)
    left = (total - done) / rate if rate > 0 else 0.0
    return Progress(stage=stage, step=done, steps=total, loss=None, images_per_second=rate, seconds_left=left)


class JsonLog:
    """JSON lines appended to a file, one for each event."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: object) -> None:
        """Append one line with the event's name and its values."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, **values}, allow_nan=False) + "\n")
