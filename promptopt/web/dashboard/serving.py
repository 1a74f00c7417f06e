"""optuna-dashboard over the copy of a run, on the loopback interface."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from promptopt.base.files import writable_folder
from promptopt.base.locks import hold
from promptopt.config.study_file import StudyError
from promptopt.run.images import RunImages
from promptopt.web.dashboard.copying import ARTIFACTS, DATABASE, FOLDER, Copied, DashboardCopy
from promptopt.web.server import LocalServer

INSTALL = "pip install 'promptopt[dashboard]'  (or: pip install 'optuna-dashboard>=0.21')"


def check_installed() -> None:
    """Raise a StudyError with the command that installs optuna-dashboard, if it is not there."""
    if find_spec("optuna_dashboard") is None:
        raise StudyError(f"optuna-dashboard is not installed. Install it: {INSTALL}")


@contextmanager
def open_dashboard(
    classes: Sequence[RunImages],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    allow_remote: bool = False,
    rebuild: bool = False,
    folder: Path | None = None,
    on_copied: Callable[[Copied], None] | None = None,
    refresh: float | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> Iterator[LocalServer]:
    """Bring the copy up to date and hold a server for it, not yet serving.

    Args:
        classes: images of the run, of each class where it searched sets (`RunImages.open_classes`).
        host, port, allow_remote: as of `LocalServer`.
        rebuild: make the copy anew; notes written in the browser are lost.
        folder: of the copy; default RUN/dashboard.
        on_copied: called after every update that added trials, and after the first.
        refresh: seconds between looks at the run while serving; None does not look again.
        on_trouble: called with the message when such a look fails; the next one may succeed.

    Raises:
        StudyError: optuna-dashboard is missing, another process shows this run, the copy is another run's, or
            the address cannot be used.
    """
    check_installed()
    from optuna_dashboard import wsgi

    place = writable_folder(folder or classes[0].folder / FOLDER, "the dashboard's copy", error=StudyError)
    busy = StudyError(
        "another process shows this run already", file=place, remedy="Use its page, or stop it first."
    )
    with hold(place / ".lock", busy):
        if rebuild:
            (place / DATABASE).unlink(missing_ok=True)
            shutil.rmtree(place / ARTIFACTS, ignore_errors=True)
        copy = DashboardCopy(classes, folder=place)
        stop = threading.Event()
        try:
            copied = copy.update()
            if on_copied is not None:
                on_copied(copied)
            app = wsgi(copy.storage, artifact_store=copy.artifacts)
            with LocalServer(app, host=host, port=port, allow_remote=allow_remote) as server:
                if refresh is not None:
                    threading.Thread(
                        target=_refresh, args=(copy, stop, refresh, on_copied, on_trouble), daemon=True
                    ).start()
                yield server
        finally:
            stop.set()
            copy.close()


def _refresh(
    copy: DashboardCopy,
    stop: threading.Event,
    seconds: float,
    on_copied: Callable[[Copied], None] | None,
    on_trouble: Callable[[str], None] | None,
) -> None:
    while not stop.wait(seconds):
        try:
            copied = copy.update()
        except (StudyError, OSError) as error:
            if on_trouble is not None:
                on_trouble(str(error))
            continue
        if (copied.trials or copied.changed) and on_copied is not None:
            on_copied(copied)
