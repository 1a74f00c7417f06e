"""Progress bars on stderr: what runs, how far, how fast, how long still."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar(unit: str) -> "Progress":
    """A bar whose tasks have a `note` field; `unit` names what is counted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
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


def duration(seconds: float) -> str:
    """Seconds in the units that a person would use."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {second:02d} s" if minutes else f"{second} s"
