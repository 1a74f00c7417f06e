"""A study that publishes itself while it runs, in a thread that it never waits for."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from promptopt.config.study_file import StudyError
from promptopt.publishing.publisher import Publisher
from promptopt.publishing.target import PublishError, Target
from promptopt.publishing.watching import Backoff
from promptopt.run.folder import DATABASE
from promptopt.study.observer import Observer

if TYPE_CHECKING:
    from promptopt.run.trials import TrialRow
    from promptopt.scoring.confirm import Confirmed
    from promptopt.study.run import StudyResult
    from promptopt.study.sets.run import SetResult
    from promptopt.study.sets.search import StepDone

_SHARE = 20.0  # of the time, at most one part in so many is spent on publishing


class Publishing(Observer):
    """Brings a run up to date in a team's database after steps of its study.

    What the database does neither stops nor slows the study: a failure is a warning, and the next attempt
    comes later. At the end of the block the last update is waited for, but no longer than `patience`.

    Args:
        folder: the run folder; it need not exist yet.
        target: the database.
        on_trouble: called with a sentence, from another thread.
        seconds: least time between updates, and after the first failure.
        patience: seconds to wait at the end.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> said = []
        >>> with Publishing(
        ...     folder / "first", Target.parse(f"sqlite:///{folder}/team.db"), on_trouble=said.append
        ... ) as publishing:
        ...     publishing.on_phase("checking the study")  # as a study calls it
        >>> said  # no study was run, so there is nothing to publish
        []
    """

    def __init__(
        self,
        folder: Path,
        target: Target,
        *,
        on_trouble: Callable[[str], None],
        seconds: float = 10.0,
        patience: float = 60.0,
    ) -> None:
        self._folder = folder
        self._target = target
        self._on_trouble = on_trouble
        self._seconds = seconds
        self._patience = patience
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._trouble = ""  # of the last attempt
        self._complete = False
        self._thread = threading.Thread(target=self._work, name="publishing", daemon=True)

    def __enter__(self) -> Publishing:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._wake.set()
        # whoever interrupts a study wants it to end
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._thread.join(min(5.0, self._patience) if interrupted else self._patience)
        if not self._complete:
            alive = self._thread.is_alive()
            trouble = self._trouble or ("no answer in time" if alive else "publishing broke off")
            again = shlex.join(["promptopt", "publish", str(self._folder), "--to", str(self._target)])
            self._on_trouble(
                f"Not all of {self._folder} is in the team's database ({trouble}). The run itself is whole. "
                f"To publish the rest: {again}"
            )

    def on_step(self, step: StepDone) -> None:
        """As `Observer`."""
        self._wake.set()

    def on_trial(self, row: TrialRow, best: TrialRow) -> None:
        """As `Observer`."""
        self._wake.set()

    def on_confirmed(self, confirmed: tuple[Confirmed, ...]) -> None:
        """As `Observer`."""
        self._wake.set()

    def on_sets_finished(self, result: SetResult) -> None:
        """As `Observer`."""
        self._wake.set()

    def on_finish(self, result: StudyResult) -> None:
        """As `Observer`."""
        self._wake.set()

    def _work(self) -> None:
        backoff = Backoff(self._seconds)
        with Publisher(self._target) as publisher:
            while True:
                self._wake.wait()
                self._wake.clear()
                last = self._stop.is_set()  # before the update, which then has all that the study wrote
                pause = self._update(publisher, backoff)
                if last:
                    self._complete = not self._trouble
                    return
                self._stop.wait(pause)

    def _update(self, publisher: Publisher, backoff: Backoff) -> float:
        """One attempt; seconds until the next one."""
        began = time.monotonic()
        try:
            publisher.update(self._folder)
        except StudyError as error:  # as a rule nothing is written yet
            self._trouble = str(error) if (self._folder / DATABASE).exists() else ""
            return self._seconds
        except (PublishError, OSError) as error:
            self._trouble = str(error)
            if not backoff.failures:
                self._on_trouble(f"Publishing failed, and is tried again while the study goes on: {error}")
            return backoff.failed()
        self._trouble = ""
        backoff.succeeded()
        return max(self._seconds, _SHARE * (time.monotonic() - began))
