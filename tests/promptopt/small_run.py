"""A finished study over colored squares, in about two seconds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.config.study_file import study_from_mapping
from promptopt.run.images import RunImages
from promptopt.study.run import StudyResult, run_study
from tests.promptopt.fakes import ColorEncoder, RednessJudge, SquareGenerator, study, write_squares


@dataclass(frozen=True)
class SmallRun:
    """A run, its store and the real images."""

    folder: Path
    store: Path
    data: Path

    def copied(self, to: Path) -> SmallRun:
        """The same run in a folder of the test's own, to be changed; store and real images stay shared."""
        return SmallRun(Path(shutil.copytree(self.folder, to / self.folder.name)), self.store, self.data)

    @property
    def images(self) -> RunImages:
        return RunImages.open(self.folder, store=self.store)


def judged_run(base: Path, **changes: Any) -> StudyResult:
    """Run the study of `fakes.study` with a judge and fewer real images; `changes` replace its keys."""
    return run_study(
        study_from_mapping(study(base, data=str(write_squares(base / "data", each=10)), **changes)),
        runs=base / "runs",
        store=base / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
        judge=RednessJudge(),
    )


def small_run(base: Path, **changes: Any) -> SmallRun:
    """Run the study of `fakes.study` with few trials; `changes` replace keys of its file."""
    data = base / "data"
    if not data.exists():
        write_squares(data)
    settings = {
        "search": {"trials": 5, "images": 6, "sampler": "random"},
        "confirm": {"top": 3, "images": 12},
        **changes,
    }
    result = run_study(
        study_from_mapping(study(base, data=str(data), **settings), base=base),
        runs=base / "runs",
        store=base / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
    )
    return SmallRun(result.folder, base / "store", data)
