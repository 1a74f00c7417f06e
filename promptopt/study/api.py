"""A study from Python, in a few lines."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.stores.address import store_folder
from promptopt.config.study_file import StudyConfig, StudyError, load_study, study_from_mapping
from promptopt.run.folder import DATABASE
from promptopt.study.proposals import Ask, Gap, Propose, ScoredPrompt, candidate_of

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from promptopt.run.trials import TrialRow
    from promptopt.scoring.objective import ImageMetric
    from promptopt.space import Candidate
    from promptopt.study.observer import Observer
    from promptopt.study.run import StudyResult
    from promptopt.study.sets.opened import OpenStudy
    from promptopt.study.sets.run import SetResult


class Study:
    """A study file, or the same as a mapping, with your own objects beside it.

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
        encoder: Encoder | None = None,
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
        self.runs, self.store = Path(runs), store_folder(store)
        self._objects: dict[str, Any] = {"generator": generator, "encoder": encoder, "judge": judge}
        self._metrics = tuple(metrics)
        self._stack = contextlib.ExitStack()
        self._opened: OpenStudy | None = None

    def __repr__(self) -> str:
        config = self.config
        about = ", ".join(config.classes) or (config.category if isinstance(config.category, str) else "own")
        return f"Study({config.name!r}, aim={config.aim!r}: {about})"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.runs / self.config.name

    def __enter__(self) -> Study:
        """The study; its run folder is let go of at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run folder, where `ask`, `tell` or `score` have opened it."""
        self._opened = None
        self._stack.close()

    def run(
        self,
        *,
        on: str = "here",
        workers: int = 1,
        device: str = "auto",
        observer: Observer | None = None,
        given: Sequence[Candidate | str] = (),
        propose: Propose | None = None,
    ) -> StudyResult | SetResult:
        """Run, resume or extend the study; a finished one makes no image. See `run_study`.

        Args:
            workers: `workers=4` is short for `on="processes:4"`.
        """
        from generators.making.place import with_workers
        from promptopt.study.run import run_study

        self.close()
        return run_study(
            self.config,
            runs=self.runs,
            store=self.store,
            on=with_workers(on, workers),
            device=device,
            observer=observer,
            given=given,
            metrics=self._metrics,
            propose=propose,
            **self._objects,
        )

    def ask(self) -> list[Ask]:
        """What the search would measure next, for each class that is not over; nothing is measured.

        An empty list says that the search is over; `run` then confirms. The run folder is locked until
        `close` or `run`.

        Raises:
            StudyError: a study with aim: single, whose trials follow from its own sampler.
        """
        return self._open().ask()

    def tell(self, prompts: Sequence[Ask | Candidate | str], *, label: str | None = None) -> dict[str, Gap]:
        """Measure prompts and enter them in the search as one step of their class.

        Args:
            prompts: what `ask` returned, or others of your own, which get as many images as any new one.
                One that was measured already is left out.
            label: the class of prompts of your own, where the study has several.

        Returns:
            The gap of each class that prompts were told for.

        Raises:
            ArgumentError: an empty prompt, one that is too long, another label, or more images than the
                budget of the class has left.
            StudyError: as `ask`.
        """
        return self._open().tell(prompts, label=label)

    def score(
        self, prompts: Sequence[Candidate | str], *, label: str | None = None, images: int | None = None
    ) -> list[ScoredPrompt]:
        """Measure prompts on the study's own seeds; nothing of it enters the search.

        Of a study of sets, against the set as it is now: how much more of a prompt would add. Of single
        prompts, the score that the search maximizes.

        Args:
            label: the class, where the study has several.
            images: of each prompt; default: as many as the search gives a new one.

        Raises:
            ArgumentError: an empty prompt, one that is too long, another label, or a study of sets that has
                measured nothing yet.
        """
        if self.config.aim == "set":
            return self._open().score(prompts, label=label, images=images)
        from promptopt.study.score import score_prompts

        return score_prompts(
            self.config,
            [candidate_of(prompt) for prompt in prompts],
            store=self.store,
            images=images,
            metrics=self._metrics,
            **self._objects,
        )

    def _open(self) -> OpenStudy:
        """The study of sets, opened, with its earlier steps taken."""
        if self.config.aim != "set":
            raise StudyError(
                f"{self.config.source}: ask and tell are of aim: set. Score prompts with `Study.score`."
            )
        if self._opened is None:
            from promptopt.study.observer import Observer
            from promptopt.study.sets.opened import opened_study

            self._opened = self._stack.enter_context(
                opened_study(
                    self.config, runs=self.runs, store=self.store, observer=Observer(), **self._objects
                )
            )
            self._opened.searches.replay()
        return self._opened

    @property
    def trials(self) -> tuple[TrialRow, ...]:
        """What has been scored so far, finished or not, of a study of single prompts.

        Raises:
            StudyError: nothing was run yet, or a study of sets.
        """
        from promptopt.study.run import show

        if self.config.aim == "set":
            from promptopt.run.database import address

            raise StudyError(
                f"{self.config.source}: a study of sets has an Optuna study for each class: "
                f"optuna.load_study(study_name=LABEL, storage={address(self.folder / DATABASE)!r})."
            )
        return show(self.folder).trials
