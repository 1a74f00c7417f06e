"""The other side of `generators.making.slurm`: what a job does until the driver has nothing more for it.

Lines of the driver: {"facts": settings}, {"spec": text}, {"chunk": [requests]}, {"end": true}. Lines of the
job: as of `generators.making.worker_process`, and {"facts": ...}, {"ended": why}.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from generators.making.lines import Beat, Inbox, Outbox

SILENCE = 600.0
"""Seconds without a sign of life of the driver after which a job ends by itself."""
POLL = 0.25


def work(folder: str, name: str) -> None:
    """Runs in the job. submitit names this function and its two texts in its pickle, and nothing else.

    Args:
        folder: of the two files of lines, which the driver has made.
        name: of the files.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        # In place of submitit's handlers: the driver starts another job, which Slurm must not do as well.
        signal.signal(number, _stop)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    converse(Path(folder), name)


def converse(folder: Path, name: str) -> None:
    """Do what the driver asks for until it says the end, or nothing any more."""
    out = Outbox(folder / f"{name}.out")
    beat = Beat(lambda: [out])
    try:
        _answer(Inbox(folder / f"{name}.in"), out)
    except SystemExit as error:
        out.send({"ended": str(error)})
        raise
    finally:
        beat.stop()


def _answer(asked: Inbox, out: Outbox) -> None:
    from generators.making.maker import Maker, failure
    from generators.making.spec import MakerSpec
    from generators.request import ImageRequest

    maker: Maker | None = None
    try:
        for message in _messages(asked):
            if "facts" in message:
                out.send({"facts": _facts(message["facts"])})
            elif "spec" in message:
                maker = Maker(MakerSpec.from_json(message["spec"]))
                out.send({"ready": True})
            elif maker is not None:
                maker.make([ImageRequest.from_json(text) for text in message["chunk"]], out.send)
                out.send({"done": True})
    except (ValueError, RuntimeError, OSError, MemoryError, ImportError) as error:
        out.send(failure(error))


def _messages(asked: Inbox) -> Iterator[dict[str, Any]]:
    started = time.monotonic()
    waiting: deque[dict[str, Any]] = deque()
    while True:
        waiting.extend(asked.read())
        if not waiting:
            if time.monotonic() - (asked.heard or started) > SILENCE:
                sys.exit("the driver is gone")
            time.sleep(POLL)
            continue
        message = waiting.popleft()
        if "end" in message:
            return
        yield message


def _facts(settings: dict[str, Any]) -> dict[str, Any]:
    from generators.card import runtime_facts

    return asdict(runtime_facts(**settings))


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(f"got {signal.Signals(number).name}, as at the end of its time or when others take its place")
