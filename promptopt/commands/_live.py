"""The live display of a running study: which trial, the best so far, images/s, time left."""

import time
from typing import TYPE_CHECKING, Any

from promptopt.commands._progress import duration
from promptopt.observer import Observer, StudyStart

if TYPE_CHECKING:
    from promptopt.confirm import Confirmed
    from promptopt.search import TrialRow

_SHOWN = 70  # characters of a prompt beside a bar


class LiveStudy(Observer):
    """Bars on a terminal; elsewhere (a log, CI) plain lines for each phase and each new best."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._start: StudyStart | None = None
        self._begun = time.monotonic()
        self._stage_begun = self._begun
        self._stage: Any = None
        self._stage_images = 0  # what the current bar has seen, stored ones included
        self._stage_total = 0
        self._generated = 0
        self._stored = 0
        self._best = ""
        self._best_number: int | None = None

    def __enter__(self) -> "LiveStudy":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def on_phase(self, text: str) -> None:
        """A step without a count."""
        self._say(text)

    def on_start(self, start: StudyStart) -> None:
        """The search begins or goes on."""
        self._start = start
        done = f", {start.trials_done} of them done" if start.trials_done else ""
        self._say(
            f"{start.name} ({start.category}): {start.prompts_in_space:,} prompts, "
            f"{start.trials} trials{done}, {start.images_per_trial} images each"
        )
        # The baseline's images come before the first trial and are counted with the search.
        left = start.trials - start.trials_done
        self._begin("search", start.trials, start.trials_done, (left + 1) * start.images_per_trial)

    def on_image(self, generated: bool) -> None:
        """One image is at hand."""
        self._generated += generated
        self._stored += not generated
        self._stage_images += 1
        self._refresh()

    def on_trial(self, row: "TrialRow", best: "TrialRow") -> None:
        """A prompt has been scored."""
        if best.number != self._best_number:
            self._best_number = best.number
            self._best = f"best {best.value:+.2f} {best.prompt}"
            self._say(f"trial {row.number + 1}: new best {best.value:+.2f}  {best.prompt}")
        if row.duplicate_of is None:
            self._bars.advance(self._stage)
        self._refresh()

    def on_confirmation(self, done: int, total: int, prompt: str) -> None:
        """A prompt has been measured on fresh seeds."""
        if self._bars.tasks and self._bars.tasks[-1].description != "confirmation":
            each = self._start.images_per_confirmation if self._start else 0
            self._begin("confirmation", total, done, (total - done) * each)
        self._bars.update(self._stage, completed=done)
        self._refresh()

    def on_confirmed(self, confirmed: "tuple[Confirmed, ...]") -> None:
        """The final ranking."""
        if confirmed:
            self._say(f"confirmed: {confirmed[0].prompt}")

    def on_finish(self, result: object) -> None:
        """Everything is written."""
        took = time.monotonic() - self._begun
        rate = f" ({self._generated / took:.1f} a second over all)" if self._generated else ""
        made = f"{self._generated} images generated{rate}, {self._stored} from the store"
        self._say(f"done in {duration(took)}: {made}")

    def _begin(self, name: str, total: int, done: int, images: int) -> None:
        self._stage = self._bars.add_task(name, total=total, completed=done, note="")
        self._stage_begun = time.monotonic()
        self._stage_images = 0
        self._stage_total = images

    def _refresh(self) -> None:
        if self._stage is None:
            return
        elapsed = max(time.monotonic() - self._stage_begun, 1e-6)
        parts = [f"{self._generated / max(time.monotonic() - self._begun, 1e-6):.1f} images/s"]
        if 0 < self._stage_images < self._stage_total:
            left = elapsed / self._stage_images * (self._stage_total - self._stage_images)
            parts.append(f"{duration(left)} left")
        if self._best:
            parts.append(self._best if len(self._best) <= _SHOWN else self._best[: _SHOWN - 1] + "…")
        self._bars.update(self._stage, note=" · ".join(parts))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)
