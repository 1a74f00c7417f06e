"""Progress bars on stderr: what runs, how far, how fast, how long still."""

import time
from typing import TYPE_CHECKING, Any

from promptopt.cli._text import WARNING, terminal
from promptopt.formatting.numbers import duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


class Bars:
    """One bar for each thing that is counted, shown from its first call on.

    Args:
        title: of the bar of `image`.
        console: where they are shown; stderr by default.
        transient: taken away at the end.
        width: of a bar, in columns.
    """

    def __init__(
        self,
        title: str = "images",
        *,
        console: "Console | None" = None,
        transient: bool = False,
        width: int = 40,
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import Task as Shown
        from rich.spinner import Spinner
        from rich.table import Column
        from rich.text import Text

        spinner = Spinner("dots")

        class Bar(BarColumn):  # of what has no count, a spinner
            def render(self, task: Shown) -> Any:
                return spinner if task.total is None else super().render(task)

        class Count(MofNCompleteColumn):
            def render(self, task: Shown) -> Any:
                return Text("") if task.total is None else super().render(task)

        # On a narrow terminal the note is broken into lines; a count cut short would say something else.
        self.display = Progress(
            TextColumn("{task.description:<12}", markup=False),
            Bar(width),
            Count(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", markup=False),
            console=console or terminal(stderr=True),
            transient=transient,
        )
        self._tasks: dict[str, TaskID] = {}
        self._busy: TaskID | None = None
        self.begin(title)

    def __enter__(self) -> "Bars":
        self.display.start()
        self._begun = time.monotonic()  # the first batch takes its time too
        return self

    def __exit__(self, *_: object) -> None:
        self.display.stop()

    def begin(self, title: str) -> None:
        """From here on `image` counts under another title."""
        self._title, self._made, self._begun = title, 0, time.monotonic()

    def say(self, text: str, *, style: str = "") -> None:
        """A line above the bars."""
        self.display.console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)

    def warn(self, text: str) -> None:
        """A line above the bars that the reader should heed."""
        self.say(WARNING + text, style="yellow")

    def busy(self, text: str | None) -> None:
        """Something without a count is being done, or (None) no longer."""
        if self._busy is not None:
            self.display.remove_task(self._busy)
            self._busy = None
        if text is not None:
            self._busy = self.display.add_task(text, total=None, note="")

    def show(self, name: str, done: int, total: int | None = None, note: str | None = None) -> None:
        """So many are done of a total (None: as before); without a note, the time that is left."""
        if name not in self._tasks:
            self._tasks[name] = self.display.add_task(name, total=total, note="")
        task = self._tasks[name]
        self.display.update(task, completed=done, total=total)
        left = next(shown for shown in self.display.tasks if shown.id == task).time_remaining
        if note is None:
            note = "" if left is None else f"{duration(left)} left"
        self.display.update(task, note=note)

    def image(self, done: int, total: int, generated: bool) -> None:
        """An image is at hand: images/s and time left count those that were made now."""
        self._made += generated
        elapsed = time.monotonic() - self._begun
        parts = [f"{done - self._made} from the store"] if done > self._made else []
        if self._made and elapsed > 0:
            rate = self._made / elapsed
            parts = [f"{rate:.3g} images/s", f"{duration((total - done) / rate)} left", *parts]
        self.show(self._title, done, total, ", ".join(parts))

    def training(self, event: Any) -> None:
        """A trainer's event: stage, step, steps, loss (or None), images_per_second, seconds_left."""
        loss = "" if event.loss is None else f"loss {event.loss:.4g}, "
        note = f"{loss}{event.images_per_second:.3g} images/s, {duration(event.seconds_left)} left"
        self.show(event.stage, event.step, event.steps, note)
