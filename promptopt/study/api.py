"""A study from Python, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config.study_file import StudyConfig, load_study, study_from_mapping

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import TextEncoder
    from generators.base import Generator
    from promptopt.run.trials import TrialRow
    from promptopt.scoring.objective import ImageMetric
    from promptopt.space import Candidate
    from promptopt.study.observer import Observer
    from promptopt.study.run import StudyResult
    from promptopt.study.sets.run import SetResult


class Study:
    """A study file, or the same as a mapping, with objects of one's own beside it.

    Args:
        source: path of a study file, its content as a mapping, or a checked `StudyConfig`.
        generator, encoder, judge: objects in place of those that the study names. A generator needs what
            `generators.base.Generator` lists: five attributes and methods, no base class.
        metrics: further terms of the score, each a function of images.
        runs, store: folders of results, and of images and features.

    Raises:
        StudyError: an unknown key or a wrong value, with the key and what would be right.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from promptopt.scoring.objective import ImageMetric
        >>> from promptopt.study.api import Study
        >>> folder = tempfile.mkdtemp()
        >>> study = Study(
        ...     {
        ...         "name": "snares",
        ...         "aim": "single",
        ...         "category": "instruments",
        ...         "data": {"phantom": {"images": 200}},
        ...         "search": {"trials": 2, "images": 4, "racing": False},
        ...         "confirm": {"top": 1, "images": 4},
        ...     },
        ...     metrics=[ImageMetric("bright", lambda images: [np.asarray(i).mean() for i in images])],
        ...     runs=folder + "/runs",
        ...     store=folder + "/store",
        ... )
        >>> result = study.run()
        >>> len(study.trials), result.prompts.prompts_scored, sum(result.weights.values())
        (2, 2, 1.0)
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, Any] | StudyConfig,
        *,
        generator: Generator | None = None,
        encoder: TextEncoder | None = None,
        judge: Judge | None = None,
        metrics: Sequence[ImageMetric] = (),
        runs: str | Path = "runs",
        store: str | Path = "store",
    ) -> None:
        if isinstance(source, StudyConfig):
            self.config = source
        elif isinstance(source, Mapping):
            self.config = study_from_mapping(source)
        else:
            self.config = load_study(source)
        self.runs, self.store = Path(runs), Path(store)
        self._objects: dict[str, Any] = {"generator": generator, "encoder": encoder, "judge": judge}
        self._metrics = tuple(metrics)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.runs / self.config.name

    def run(
        self,
        *,
        workers: int = 1,
        device: str = "auto",
        observer: Observer | None = None,
        given: Sequence[Candidate | str] = (),
    ) -> StudyResult | SetResult:
        """Run, resume or extend the study; a finished one makes no image. See `run_study`."""
        from promptopt.study.run import run_study

        return run_study(
            self.config,
            runs=self.runs,
            store=self.store,
            workers=workers,
            device=device,
            observer=observer,
            given=given,
            metrics=self._metrics,
            **self._objects,
        )

    @property
    def trials(self) -> tuple[TrialRow, ...]:
        """What has been scored so far, finished or not.

        Raises:
            StudyError: nothing was run yet.
        """
        from promptopt.study.run import show

        return show(self.folder).trials
