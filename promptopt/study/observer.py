"""What a study tells the outside while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptopt.run.trials import TrialRow
    from promptopt.scoring.confirm import Confirmed
    from promptopt.space import Candidate
    from promptopt.study.run import StudyResult
    from promptopt.study.sets.run import SetResult
    from promptopt.study.sets.search import StepDone


@dataclass(frozen=True)
class StudyStart:
    """Facts known before the first image.

    Attributes:
        images_in_search: that are still to come, the baseline's and those of racing among them; about.
    """

    name: str
    category: str
    prompts_in_space: int
    trials: int
    trials_done: int
    images_per_trial: int
    prompts_to_confirm: int
    images_per_confirmation: int
    images_in_search: int = 0


@dataclass(frozen=True)
class SetStart:
    """Facts known before the first image of a study of sets.

    Attributes:
        classes: label -> number of prompts in its template.
        images: most images of the search, for each class.
        confirm_images: fresh images of each method, for each class.
        methods: how many are compared: set, learned template, baseline, random, single prompt, captions.
    """

    name: str
    classes: Mapping[str, int]
    images: int
    confirm_images: int
    methods: int = 5


class Observer:
    """Receives events; each method does nothing unless overridden. An exception from one stops the study.

    Example:
        >>> class Steps(Observer):
        ...     images = 0
        ...
        ...     def on_image(self, generated: bool) -> None:
        ...         self.images += generated
        >>> steps = Steps()
        >>> steps.on_class_image("polyp", generated=True)  # as a study calls it
        >>> steps.images
        1
    """

    def on_phase(self, text: str) -> None:
        """A step without a count has begun, e.g. reading the data."""

    def on_warning(self, text: str) -> None:
        """Before the first image: something that the results will suffer from, and what to do about it."""

    def on_start(self, start: StudyStart) -> None:
        """Everything is checked; the search begins or goes on."""

    def on_sets(self, start: SetStart) -> None:
        """As `on_start`, of a study of sets."""

    def on_step(self, step: StepDone) -> None:
        """A class's search has measured some prompts and solved its set anew."""

    def on_searched(self, label: str, images: int, reason: str) -> None:
        """A class's search is over: the images made for it, perhaps fewer than were allowed, and why."""

    def on_first_images(self, path: Path) -> None:
        """Every class's search has taken a step: a sheet of images is there, drawn again after the search."""

    def on_training(self, done: int, total: int, note: str) -> None:
        """Classifiers are being trained: steps done, in all, and of which one."""

    def on_sets_finished(self, result: SetResult) -> None:
        """Everything is written, of a study of sets."""

    def on_image(self, generated: bool) -> None:
        """One image is at hand; `generated` is False when it came from the store."""

    def on_class_image(self, label: str, generated: bool) -> None:
        """As `on_image`, of a study of sets: an image of this class."""
        self.on_image(generated)

    def on_trial(self, row: TrialRow, best: TrialRow) -> None:
        """A prompt has been scored; `best` is the best so far (its score is optimistic)."""

    def on_confirmation(self, done: int, total: int, candidate: Candidate) -> None:
        """A prompt's fresh images have been measured."""

    def on_confirmed(self, confirmed: tuple[Confirmed, ...]) -> None:
        """The final ranking."""

    def on_finish(self, result: StudyResult) -> None:
        """Everything is written."""


class Observers(Observer):
    """Several observers as one; each is told of everything, in their order.

    Example:
        >>> class Says(Observer):
        ...     def on_phase(self, text: str) -> None:
        ...         print(text)
        >>> Observers(Says(), Says()).on_phase("reading the data")
        reading the data
        reading the data
    """

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def on_phase(self, text: str) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_phase(text)

    def on_warning(self, text: str) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_warning(text)

    def on_start(self, start: StudyStart) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_start(start)

    def on_sets(self, start: SetStart) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_sets(start)

    def on_step(self, step: StepDone) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_step(step)

    def on_searched(self, label: str, images: int, reason: str) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_searched(label, images, reason)

    def on_first_images(self, path: Path) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_first_images(path)

    def on_training(self, done: int, total: int, note: str) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_training(done, total, note)

    def on_sets_finished(self, result: SetResult) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_sets_finished(result)

    def on_image(self, generated: bool) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_image(generated)

    def on_class_image(self, label: str, generated: bool) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_class_image(label, generated)

    def on_trial(self, row: TrialRow, best: TrialRow) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_trial(row, best)

    def on_confirmation(self, done: int, total: int, candidate: Candidate) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_confirmation(done, total, candidate)

    def on_confirmed(self, confirmed: tuple[Confirmed, ...]) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_confirmed(confirmed)

    def on_finish(self, result: StudyResult) -> None:
        """As `Observer`."""
        for one in self.observers:
            one.on_finish(result)
