"""A study's events as numbers for a tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptopt.study.observer import Observer, SetStart, StudyStart

if TYPE_CHECKING:
    from promptopt.base.trackers import Tracker
    from promptopt.run.trials import TrialRow
    from promptopt.study.run import StudyResult
    from promptopt.study.sets.run import SetResult
    from promptopt.study.sets.search import StepDone


class Tracking(Observer):
    """Sends what happens to a tracker (`promptopt.base.trackers`, or an object of your own).

    Of a study of sets: for each class by step, ``LABEL/images``, ``LABEL/prompts``, ``LABEL/nearer`` (MMD^2).
    Of single prompts: by trial, ``score``, ``best`` and ``images``; at the end what was confirmed.
    Steps that are read from an earlier run are not sent again.

    Example:
        >>> from promptopt.study.observer import SetStart
        >>> class Notes:
        ...     def log(self, values, *, step): ...
        ...     def note(self, values): print(values)
        ...     def close(self): ...
        >>> start = SetStart(name="first", classes={"polyp": 12}, images=64, confirm_images=8)
        >>> Tracking(Notes()).on_sets(start)
        {'study': 'first', 'classes': 'polyp'}
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_start(self, start: StudyStart) -> None:
        """As `Observer`."""
        self.tracker.note({"study": start.name, "category": start.category})

    def on_sets(self, start: SetStart) -> None:
        """As `Observer`."""
        self.tracker.note({"study": start.name, "classes": ", ".join(start.classes)})

    def on_step(self, step: StepDone) -> None:
        """As `Observer`."""
        if step.replayed:
            return
        values = {"images": step.images, "prompts": len(step.weights), "nearer": step.nearer}
        self.tracker.log({f"{step.label}/{name}": value for name, value in values.items()}, step=step.step)

    def on_trial(self, row: TrialRow, best: TrialRow) -> None:
        """As `Observer`."""
        self.tracker.log({"score": row.value, "best": best.value, "images": row.images}, step=row.number)

    def on_sets_finished(self, result: SetResult) -> None:
        """As `Observer`."""
        self.tracker.note({"result": result.sets.sentence})
        confirmed = {f"accuracy/{name}": one.value for name, one in result.sets.accuracy.items()}
        self._confirmed(confirmed)

    def on_finish(self, result: StudyResult) -> None:
        """As `Observer`."""
        self.tracker.note({"result": result.sentence})
        first = result.prompts.prompts[0].confirmation.get("score")
        self._confirmed({"confirmed/score": None if first is None else first.value})

    def _confirmed(self, values: dict[str, float | None]) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            self.tracker.log(known, step=0)
