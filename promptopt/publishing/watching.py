"""Publishing again and again: with patience where the database fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptopt.config.study_file import StudyError
from promptopt.publishing.publisher import PublishedRun, Publisher
from promptopt.publishing.target import PublishError, TargetError

_LONGEST = 300.0  # seconds between attempts while the database fails


@dataclass
class Backoff:
    """Seconds until the next attempt: twice as many after each failure.

    Example:
        >>> backoff = Backoff(1.0)
        >>> [backoff.failed() for _ in range(3)], backoff.succeeded(), backoff.failed()
        ([1.0, 2.0, 4.0], None, 1.0)
    """

    first: float
    longest: float = _LONGEST
    failures: int = 0

    def failed(self) -> float:
        """After a failure."""
        self.failures += 1
        return min(self.longest, self.first * 2.0 ** (self.failures - 1))

    def succeeded(self) -> None:
        """The next failure counts as the first."""
        self.failures = 0


def publish(
    publisher: Publisher,
    runs: Sequence[Path],
    *,
    attempts: int = 3,
    on_update: Callable[[PublishedRun], None] | None = None,
) -> list[PublishedRun]:
    """One update of each run, attempted anew where the database fails.

    Raises:
        PublishError: it failed every time.
        StudyError: not a run folder, or a damaged one.
    """
    found = []
    for run in runs:
        backoff = Backoff(1.0)
        while True:
            try:
                found.append(publisher.update(run))
                break
            except PublishError as error:
                if isinstance(error, TargetError) or backoff.failures + 1 >= attempts:
                    raise
                time.sleep(backoff.failed())
        if on_update is not None:
            on_update(found[-1])
    return found


def watch(
    publisher: Publisher,
    runs: Sequence[Path],
    *,
    seconds: float,
    on_update: Callable[[PublishedRun], None],
    on_trouble: Callable[[str], None],
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Update runs until all of them are finished.

    Args:
        seconds: between looks; after failures longer ones, up to five minutes.
        on_update: called with every update that changed something, and with the last one of a run.
        on_trouble: called with what went wrong, once as long as it stays the same; the next look may succeed.
    """
    left = list(runs)
    backoff = Backoff(seconds)
    said = ""
    while left:
        pause, trouble = seconds, ""
        for run in list(left):
            try:
                found = publisher.update(run)
            except PublishError as error:
                trouble, pause = str(error), backoff.failed()
                break  # the others are in the same database
            except (StudyError, OSError) as error:  # not begun yet, or its file is busy
                trouble = str(error)
                continue
            backoff.succeeded()
            if found.added or found.changed or found.finished:
                on_update(found)
            if found.finished:
                left.remove(run)
        if trouble and trouble != said:
            on_trouble(trouble)
        said = trouble
        if left:
            sleep(pause)
