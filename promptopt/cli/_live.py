"""The live display of a running study: which trial, the best so far, images/s, time left."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.reading import one_line
from promptopt.cli._progress import Bars
from promptopt.cli._text import terminal
from promptopt.formatting.numbers import count, duration
from promptopt.study.observer import Observer, SetStart, StudyStart

if TYPE_CHECKING:
    from promptopt.run.trials import TrialRow
    from promptopt.scoring.confirm import Confirmed
    from promptopt.space import Candidate
    from promptopt.study.sets.search import StepDone

_SHOWN = 76  # characters of the best prompt, with its score, beside a bar
_LEAST = 24  # fewer are not worth showing


class LiveStudy(Observer):
    """Bars on a terminal or in a notebook; elsewhere (a log, CI) a line for each phase and each new best.

    Example:
        >>> with LiveStudy() as live:  # study.run(observer=live)
        ...     live.on_phase("reading the data")
    """

    def __init__(self) -> None:

        self._console = terminal(stderr=True, highlight=False, soft_wrap=True)
        bar = 30 if self._console.width >= 110 else 12
        # columns beside name, bar and count
        self._room = self._console.width - 12 - bar - len("9999/9999") - 4
        self._bars = Bars(console=self._console, transient=True, width=bar)
        self._begun = time.monotonic()
        self._running = self._begun  # when the first image could have come
        self._stage = ""  # "search", then "confirmation"
        self._done = {"search": 0, "confirmation": 0}  # images
        self._total = {"search": 0, "confirmation": 0}
        self._of = ""  # which prompt of how many
        self._generated = 0
        self._stored = 0
        self._tried = self._trials = 0
        self._best = ""
        self._best_prompt: Candidate | None = None
        self._sets: _Sets | None = None

    def __enter__(self) -> "LiveStudy":
        self._bars.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.__exit__()

    def on_phase(self, text: str) -> None:
        """A step without a count."""
        if self._sets is not None:  # the first phase after the search of sets is their confirmation
            self._sets.confirming = True
        if self._stage == "search" and self._of:
            self._stage, self._of, self._best = "confirmation", "", ""
            self._bars.show("search", self._done["search"], self._done["search"], "")
        self._say(text)
        self._bars.busy(text)

    def on_warning(self, text: str) -> None:
        """What the results will suffer from."""
        self._bars.warn(text)

    def on_start(self, start: StudyStart) -> None:
        """The search begins or goes on."""
        done = f", {start.trials_done} of them done" if start.trials_done else ""
        self._say(
            f"{start.name} ({start.category}): {start.prompts_in_space:,} prompts, "
            f"{start.trials} trials{done}, {start.images_per_trial} images each at first"
        )
        self._total["search"] = start.images_in_search
        # the baseline prompt besides
        self._total["confirmation"] = (start.prompts_to_confirm + 1) * start.images_per_confirmation
        self._running = time.monotonic()
        self._tried, self._trials = start.trials_done, start.trials
        self._stage, self._of = "search", f"prompt {self._tried} of {self._trials}"
        self._bars.busy(None)
        self._refresh()

    def on_image(self, generated: bool) -> None:
        """One image is at hand."""
        self._generated += generated
        self._stored += not generated
        if self._stage:
            if not self._done[self._stage]:
                self._bars.busy(None)
            self._done[self._stage] += 1
        self._refresh()

    def on_sets(self, start: SetStart) -> None:
        """A study of sets begins or goes on."""
        spaces = ", ".join(f"{label} ({size:,} prompts)" for label, size in start.classes.items())
        self._say(f"{start.name}: {spaces}; at most {start.images:,} images of each class in the search")
        self._running = time.monotonic()
        self._sets = _Sets(start)
        self._bars.busy(None)
        for label in start.classes:
            self._bars.show(label, 0, start.images, "")

    def on_class_image(self, label: str, generated: bool) -> None:
        """One image of a class of a study of sets is at hand."""
        self._generated += generated
        self._stored += not generated
        sets = self._sets
        if sets is None:
            return
        self._bars.busy(None)
        elapsed = max(time.monotonic() - self._running, 1e-6)
        rate = self._generated / elapsed
        if sets.confirming:
            done, total = sets.confirmed(), sets.to_confirm
            self._bars.show("confirmation", done, total, _pace(rate, total - done))
        else:
            sets.made[label] += generated
            self._bars.show(label, min(sets.made[label], sets.most[label]), None, sets.note(label, rate))

    def on_step(self, step: "StepDone") -> None:
        """A class's set was solved anew."""
        sets = self._sets
        if sets is None:
            return
        quarter = sets.step(step)
        rate = self._generated / max(time.monotonic() - self._running, 1e-6)
        self._bars.show(step.label, step.images, None, sets.note(step.label, rate))
        if quarter and not step.replayed:
            self._say(
                f"{step.label}: {step.images:,} of {step.budget:,} images, "
                f"{count(len(step.weights), 'prompt')}, {_nearer_words(step.nearer)} than the baseline "
                "on the images fitted to"
            )

    def on_searched(self, label: str, images: int, reason: str) -> None:
        """A class's search is over."""
        if self._sets is not None:
            self._bars.busy(None)
            self._bars.show(label, images, images, self._sets.end(label, images))
        self._say(f"{label}: the search ended: {reason}")

    def on_first_images(self, path: Path) -> None:
        """A sheet of the images so far is there."""
        self._say(f"images so far, nothing confirmed yet: {path}", whole=True)

    def on_training(self, done: int, total: int, note: str) -> None:
        """Classifiers are being trained."""
        self._bars.busy(None)
        self._bars.show("training", done, total)

    def on_sets_finished(self, result: object) -> None:
        """Everything is written, of a study of sets."""
        self.on_finish(result)

    def on_trial(self, row: "TrialRow", best: "TrialRow") -> None:
        """A prompt has been scored, or looked at again."""
        self._tried += row.continues is None
        self._best = f"best {best.value:+.2f} {one_line(best.candidate.label)}"
        if best.candidate != self._best_prompt:  # more images may lower its score: no news
            self._best_prompt = best.candidate
            score = f"{best.value:+.2f} on {best.images} images"
            self._say(f"best so far after prompt {self._tried}: {score}  {one_line(best.candidate.label)}")
        self._of = f"prompt {self._tried} of {self._trials}"
        self._refresh()

    def on_confirmation(self, done: int, total: int, candidate: "Candidate") -> None:
        """A prompt has been measured on fresh seeds."""
        self._of = f"prompt {done} of {total}"
        self._refresh()

    def on_confirmed(self, confirmed: "tuple[Confirmed, ...]") -> None:
        """The final ranking."""
        if confirmed:
            self._say(f"confirmed: {one_line(confirmed[0].candidate.label)}")

    def on_finish(self, result: object) -> None:
        """Everything is written."""
        self._bars.busy(None)
        took = time.monotonic() - self._begun
        rate = f" ({self._generated / took:.1f} a second over all)" if self._generated else ""
        made = f"{self._generated} images generated{rate}, {self._stored} from the store"
        self._say(f"done in {duration(took)}: {made}")

    def _refresh(self) -> None:
        if not self._stage:
            return
        elapsed = max(time.monotonic() - self._running, 1e-6)
        done, total = self._done[self._stage], max(self._done[self._stage], self._total[self._stage])
        rate = self._generated / elapsed
        left = total - done + (self._total["confirmation"] if self._stage == "search" else 0)
        parts = [
            _pace(rate, left) or f"{rate:.1f} images/s" if self._generated else "from the store",
            self._of,
        ]
        parts = [part for part in parts if part]
        room = min(_SHOWN, self._room - len(" · ".join(parts)) - 3)
        if self._best and room >= _LEAST:
            parts.append(self._best if len(self._best) <= room else self._best[: room - 1] + "…")
        self._bars.show(self._stage, done, total, note=" · ".join(parts))

    def _say(self, text: str, *, whole: bool = False) -> None:
        """A line above the bars; on a terminal it is broken between words, if it is not to be copied."""
        self._console.print(text, markup=False, soft_wrap=whole or not self._console.is_terminal)


class _Sets:
    """How far the classes of a study of sets are."""

    def __init__(self, start: SetStart) -> None:
        self.made = dict.fromkeys(start.classes, 0)
        self.most = dict.fromkeys(start.classes, start.images)  # fewer where a search ended early
        self.to_confirm = start.methods * start.confirm_images * len(start.classes)
        self.confirming = False
        self._nearer: dict[str, float] = {}
        self._quarters = dict.fromkeys(start.classes, 0)
        self._confirmed = 0

    def step(self, step: "StepDone") -> bool:
        """Take a step in; whether its class passed another quarter of its images."""
        self.made[step.label], self._nearer[step.label] = step.images, step.nearer
        quarter = 4 * step.images // step.budget
        before, self._quarters[step.label] = self._quarters[step.label], quarter
        return quarter > before

    def end(self, label: str, images: int) -> str:
        """A class gets no further images; what stands beside its bar from now on."""
        self.made[label] = self.most[label] = images
        return self.note(label, 0)

    def confirmed(self) -> int:
        """Count one more image of the confirmation."""
        self._confirmed += 1
        return min(self._confirmed, self.to_confirm)

    def note(self, label: str, rate: float) -> str:
        """What stands beside a class's bar; the time is that of all images to come, of all classes."""
        searching = sum(max(self.most[name] - made, 0) for name, made in self.made.items())
        left = searching + self.to_confirm
        known = self._nearer.get(label)
        parts = [] if known is None else [_nearer_words(known)]
        return " · ".join(filter(None, [*parts, _pace(rate, left)]))


def _nearer_words(value: float) -> str:
    """How much nearer (MMD^2), if at all."""
    return f"nearer by {value:.3f}" if value > 0 else "not yet nearer"


def _pace(rate: float, left: int) -> str:
    return f"{rate:.1f} images/s · {duration(left / rate)} left" if rate > 0 and left else ""
