"""Run folders whose study of sets grows step by step, written by the search's own log; no image is made."""

from __future__ import annotations

import json
from pathlib import Path

from promptopt.run.folder import DATABASE, SETTINGS
from promptopt.run.set_log import LoggedLook, SetLog
from promptopt.space import Candidate, PromptSpace, compile_template


class GrowingRun:
    """A run of one class, "red"; `grow` adds a step of two prompts and looks at the first ones again.

    `again` looks, in every step, at a prompt of the step before; else in the second step alone.
    """

    def __init__(self, folder: Path, *, steps: int = 20, again: bool = False) -> None:
        folder.mkdir(parents=True)
        (folder / SETTINGS).write_text(json.dumps({"format": 2, "aim": "set"}))
        self.folder = folder
        self._again = again
        self._words = {"size": ["big", "small"], "tone": [f"tone {n}" for n in range(steps)]}
        self._space: PromptSpace = compile_template("a __size__ square __tone__", self._words)
        self._log = SetLog(folder / DATABASE, label="red", space=self._space)
        self._known: list[tuple[Candidate, dict[str, str]]] = []

    def grow(self) -> None:
        step = len(self._log.steps)
        choices = [{"size": size, "tone": self._words["tone"][step]} for size in self._words["size"]]
        new = [(self._space.candidate(choice), choice) for choice in choices]
        again = self._known[-2:-1] if step == 1 or self._again else []
        looks = [LoggedLook(c, choice, 4) for c, choice in new] + [LoggedLook(c, x, 8) for c, x in again]
        self._log.add(looks, {look.candidate: step + 0.25 for look in looks})
        self._known += new

    def finish(self) -> None:
        values = {candidate: 0.5 for candidate, _ in self._known}
        self._log.finish(values, dict.fromkeys(values, 0.5))
