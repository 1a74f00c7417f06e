"""One study of sets: search every class, confirm, write."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.run import folder as runfolder
from promptopt.run.prompt_sets import PromptSet, SetList, write_sets
from promptopt.run.set_tables import write_set_tables
from promptopt.space import Candidate
from promptopt.study.observer import Observer, SetStart
from promptopt.study.proposals import Propose
from promptopt.study.sets.confirm import Confirmation, confirm_sets
from promptopt.study.sets.first_images import write_first_images
from promptopt.study.sets.opened import opened_study
from promptopt.study.sets.opening import SetSetup
from promptopt.study.sets.results import set_list
from promptopt.study.sets.search import ClassSearch, SetSearches, StepDone

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from generators.making.makers import Makers

Given = Mapping[str, Mapping[str, Sequence[Candidate]]]


@dataclass(frozen=True, repr=False)
class SetResult:
    """What a finished run made.

    Attributes:
        sets: what prompts.json says.
        generated: images made now; 0 when everything was in the store.
        seconds: wall time by phase.
        pictures: label -> method -> its confirmation images, one a seed, in the store.

    Example:
        >>> import tempfile
        >>> from promptopt import Study
        >>> content = {
        ...     "name": "first",
        ...     "category": "normal",
        ...     "data": {"phantom": {"images": 20, "test": 20, "hospital": "coast"}},
        ...     "generator": {"steps": 2},
        ...     "set": {"budget": 16, "images": 2},
        ...     "confirm": {"images": 4},
        ... }
        >>> folder = tempfile.mkdtemp()
        >>> result = Study(content, runs=folder + "/runs", store=folder + "/store").run()
        >>> list(result.best_prompts), len(result.images("normal", "baseline"))
        (['normal'], 4)
    """

    folder: Path
    prompts_path: Path
    report_path: Path
    sets: SetList
    generated: int
    reused: int
    seconds: Mapping[str, float]
    pictures: Mapping[str, Mapping[str, Sequence[Path]]] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{c.label}: {len(c.set.prompts)} prompts" for c in self.sets.classes)
        return f"SetResult({self.sets.study!r}, {sizes}; {self.sets.sentence!r})"

    def _repr_html_(self) -> str:
        from promptopt.study.notebook import result_html

        pictures = {
            f"{label}, {method}": own[method]
            for label, own in self.pictures.items()
            for method in ("set", "baseline")
            if method in own
        }
        return result_html(self.sets.sentence, self.rows(), pictures, self.report_path)

    def images(self, label: str, method: str = "set") -> list[Path]:
        """Files of a class's fresh images by a method, in the order of the confirmation seeds.

        Args:
            method: "set", "learned", "baseline", "random" or "single".

        Raises:
            StudyError: another class or method.
        """
        own = self.pictures.get(label, {})
        if method not in own:
            known = ", ".join(f"{name} ({', '.join(of)})" for name, of in self.pictures.items())
            raise StudyError(f"there are no images of {label!r} by {method!r}; there are {known}.")
        return list(own[method])

    def rows(self) -> list[dict[str, Any]]:
        """Every prompt of every set, with its class, rank, weight, and what it adds (MMD^2)."""
        return [
            {
                "class": c.label,
                "rank": rank,
                "weight": p.weight,
                "prompt": p.prompt,
                "negative_prompt": p.negative_prompt,
                "images": p.images,
                "adds": p.adds,
            }
            for c in self.sets.classes
            for rank, p in enumerate(c.set.prompts, start=1)
        ]

    def to_dataframe(self) -> Any:
        """`rows` as a pandas.DataFrame. Raises StudyError where pandas is not installed."""
        from promptopt.study.notebook import data_frame

        return data_frame(self.rows())

    @property
    def best_prompts(self) -> dict[str, PromptSet]:
        """Label -> its set."""
        return {entry.label: entry.set for entry in self.sets.classes}

    @property
    def nothing_new(self) -> bool:
        """True when no image was made."""
        return self.generated == 0


def run_set_study(
    config: StudyConfig,
    *,
    runs: Path,
    store: Path,
    observer: Observer | None = None,
    device: str = "auto",
    on: str = "here",
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    propose: Propose | None = None,
    given: Given | None = None,
    makers: Makers | None = None,
) -> SetResult:
    """Run, resume or extend a study of sets; see `promptopt.study.run.run_study`.

    Args:
        propose: asked before each step for further prompts, given the label and its `Gap`.
        given: further methods to confirm: label -> name -> one candidate a confirmation seed.
        makers: as of `run_study`.
    """
    began = time.perf_counter()
    observer = observer or Observer()
    steps: list[StepDone] = []

    def stepped(step: StepDone) -> None:
        steps.append(step)
        observer.on_step(step)
        classes = opened.searches.classes
        if len(steps) == len(classes):  # in turn, so each has taken one
            observer.on_first_images(draw(classes))

    def draw(classes: Mapping[str, ClassSearch]) -> Path:
        real = "real" if isinstance(config.data, str) else "phantom"
        return write_first_images(opened.folder / runfolder.FIRST_IMAGES, classes, real=real)

    with opened_study(
        config,
        runs=runs,
        store=store,
        observer=observer,
        device=device,
        on=on,
        generator=generator,
        encoder=encoder,
        judge=judge,
        propose=propose,
        on_step=stepped,
        makers=makers,
    ) as opened:
        folder, setup, searches = opened.folder, opened.setup, opened.searches
        observer.on_sets(_start(setup))
        prepared = time.perf_counter()
        searches.run()
        draw(searches.classes)
        searched = time.perf_counter()
        confirmation = confirm_sets(
            setup,
            searches.classes,
            cache=opened.store / "classifiers",
            on_phase=observer.on_phase,
            on_training=observer.on_training,
            given=given,
        )
        searches.finish()
        confirmed = time.perf_counter()
        sets = set_list(setup, searches.classes, confirmation)
        report = _write(folder, setup, searches, confirmation, sets, steps, observer)
        path = write_sets(folder / runfolder.PROMPTS, sets)  # last: its presence says that all is finished
        ended = time.perf_counter()
        result = SetResult(
            folder=folder,
            prompts_path=path,
            report_path=report,
            sets=sets,
            generated=sum(one.generated for one in opened.measuring.values()),
            reused=sum(one.reused for one in opened.measuring.values()),
            seconds={
                "prepare": prepared - began,
                "search": searched - prepared,
                "confirm": confirmed - searched,
                "report": ended - confirmed,
                "total": ended - began,
            },
            pictures={
                label: {name: [i.path for i in row] for name, row in one.images.items()}
                for label, one in confirmation.classes.items()
            },
        )
        observer.on_sets_finished(result)
        return result


def _write(
    folder: Path,
    setup: SetSetup,
    searches: SetSearches,
    confirmation: Confirmation,
    sets: SetList,
    steps: Sequence[StepDone],
    observer: Observer,
) -> Path:
    from promptopt.study.report.sets import SetReport, write_set_report

    observer.on_phase("writing the report")
    write_set_tables(folder, sets)
    return write_set_report(
        folder / runfolder.REPORT,
        SetReport(setup=setup, searches=searches.classes, confirmation=confirmation, sets=sets, steps=steps),
    )


def _start(setup: SetSetup) -> SetStart:
    config = setup.config
    return SetStart(
        name=config.name,
        classes={label: own.space.size for label, own in setup.classes.items()},
        images=config.set.budget,
        confirm_images=config.confirm_images,
        methods=5 + config.confirm.captions,
    )
