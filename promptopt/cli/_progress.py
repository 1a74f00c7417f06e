"""Progress bars on stderr: what runs, how far, how fast, how long still."""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar(unit: str) -> "Progress":
    """A bar whose tasks have a `note` field; `unit` names what is counted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    # Where the terminal is narrow the note is broken into lines; a count cut short would say something else.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn(unit),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=False)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
    )


class TrainingBars:
    """Shows the progress events of a trainer: one bar for each stage, with loss, images/s and time left.

    An event has `stage`, `step`, `steps`, `loss` (or None), `images_per_second` and `seconds_left`.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "TrainingBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, event: Any) -> None:
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.steps, note="")
        loss = "" if event.loss is None else f"loss {event.loss:.4g}, "
        left = duration(event.seconds_left)
        note = f"{loss}{event.images_per_second:.3g} images/s, {left} left"
        self._bars.update(self._tasks[event.stage], completed=event.step, note=note)


class GenerationBar:
    """One bar for a run of images: how many are at hand, images/s of those made now, time left."""

    def __init__(self, title: str = "images") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
        )
        self._title = title
        self._task: Any = None
        self._made = 0
        self._begun = time.monotonic()

    def __enter__(self) -> "GenerationBar":
        self._bars.start()
        self._begun = time.monotonic()  # the first batch takes its time too
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __call__(self, done: int, total: int, generated: bool) -> None:
        if self._task is None:
            self._task = self._bars.add_task(self._title, total=total, note="")
        if generated:
            self._made += 1
        elapsed = time.monotonic() - self._begun
        note = f"{done - self._made} from the store" if done > self._made else ""
        if self._made and elapsed > 0:
            rate = self._made / elapsed
            parts = [f"{rate:.3g} images/s", f"{duration((total - done) / rate)} left", note]
            note = ", ".join(part for part in parts if part)
        self._bars.update(self._task, completed=done, note=note)


def duration(seconds: float) -> str:
    """Seconds in the units that a person would use."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {second:02d} s" if minutes else f"{second} s"
