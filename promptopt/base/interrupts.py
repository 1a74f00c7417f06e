"""Ctrl-C and SIGTERM: one sentence and exit code 130 or 143, from the first import to the last.

Nothing is imported here that takes time, so that the handlers stand before anything else is loaded.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LATER = 0.02  # seconds


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; whatever cleans up after Ctrl-C cleans up after it."""


def exit_code(error: BaseException) -> int:
    """As a shell has it: 128 and the number of the signal."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def farewell(code: int) -> str:
    """What is said at the end."""
    again = shlex.join(["promptopt", *sys.argv[1:]])
    what = "Interrupted" if code == 128 + signal.SIGINT else "Stopped by SIGTERM"
    return f"{what}. Finished work is kept; to go on, run again: {again}"


def end_at_once() -> None:
    """From now on a signal ends the process without more ado: for times when nothing is half done.

    Python's own way, an exception, gets lost or shows a traceback while modules are loaded or torn down.
    """
    _handle(_end)


@contextmanager
def raising() -> Iterator[None]:
    """In the block a signal raises KeyboardInterrupt or `Terminated`, also where one was swallowed before.

    A finalizer or a callback from C swallows exceptions; the signal is then raised once more.
    """
    before = _handle(_raise)
    hook = sys.unraisablehook

    def once_more(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):
            import threading

            # a moment later, since what is raised in here is lost too
            number = exit_code(lost.exc_value) - 128
            threading.Timer(_LATER, os.kill, (os.getpid(), number)).start()
        else:
            hook(lost)

    if before:
        sys.unraisablehook = once_more
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _handle(handler: Any) -> dict[int, Any]:
    """Set it for both signals; the handlers before. Nothing is done off the main thread."""
    before: dict[int, Any] = {}
    with suppress(ValueError):  # not the main thread
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and shells' jobs want it
                before[number] = signal.signal(number, handler)
    return {number: old for number, old in before.items() if old is not None}


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, f"{farewell(128 + number)}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
