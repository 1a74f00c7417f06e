"""One study of sets: search every class, confirm, write."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from promptopt.base.files import write_text
from promptopt.config.study_file import StudyConfig
from promptopt.run import folder as runfolder
from promptopt.run.prompt_sets import PromptSet, SetList, write_sets
from promptopt.space import Candidate
from promptopt.study.measuring import Measuring
from promptopt.study.observer import Observer, SetStart
from promptopt.study.results import resolved_study
from promptopt.study.sets.confirm import Confirmation, confirm_sets
from promptopt.study.sets.opening import SetSetup, prepare_sets
from promptopt.study.sets.results import set_list
from promptopt.study.sets.search import SetSearches, StepDone
from promptopt.study.sets.tables import write_set_tables

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import TextEncoder
    from generators.base import Generator
    from promptopt.search.sets.engine import SetState

Propose = Callable[[str, "SetState"], Sequence[Candidate]]
Given = Mapping[str, Mapping[str, Sequence[Candidate]]]


@dataclass(frozen=True)
class SetResult:
    """What a finished run made.

    Attributes:
        sets: what prompts.json says.
        generated: images made now; 0 when everything was in the store.
        seconds: wall time by phase.
    """

    folder: Path
    prompts_path: Path
    report_path: Path
    sets: SetList
    generated: int
    reused: int
    seconds: Mapping[str, float]

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
    workers: int = 1,
    generator: Generator | None = None,
    encoder: TextEncoder | None = None,
    judge: Judge | None = None,
    propose: Propose | None = None,
    given: Given | None = None,
) -> SetResult:
    """Run, resume or extend a study of sets; see `promptopt.study.run.run_study`.

    Args:
        propose: asked before each step for further candidates, given the label and what is known of it.
        given: further methods to confirm: label -> name -> one candidate a confirmation seed.
    """
    began = time.perf_counter()
    observer = observer or Observer()
    with runfolder.locked_run(Path(runs), config.name) as folder, contextlib.ExitStack() as open_things:
        store = runfolder.writable_folder(Path(store), "the store")
        observer.on_phase("checking the study, its data and its models")
        setup = prepare_sets(
            config, store=store, device=device, generator=generator, encoder=encoder, judge=judge
        )
        runfolder.check_settings(folder, setup.identity)
        write_text(folder / runfolder.STUDY, _resolved(setup))
        measuring: dict[str, Measuring] = {}
        for label, own in setup.classes.items():
            measuring[label] = Measuring(
                own, store=store, workers=workers, on_image=partial(observer.on_class_image, label)
            )
            open_things.enter_context(contextlib.closing(measuring[label]))
        steps: list[StepDone] = []

        def stepped(step: StepDone) -> None:
            steps.append(step)
            observer.on_step(step)

        searches = SetSearches(
            setup,
            measuring=measuring,
            path=folder / runfolder.DATABASE,
            on_step=stepped,
            propose=propose,
        )
        observer.on_sets(_start(setup))
        prepared = time.perf_counter()
        searches.run()
        searched = time.perf_counter()
        confirmation = confirm_sets(
            setup,
            searches.classes,
            cache=store / "classifiers",
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
            generated=sum(one.generated for one in measuring.values()),
            reused=sum(one.reused for one in measuring.values()),
            seconds={
                "prepare": prepared - began,
                "search": searched - prepared,
                "confirm": confirmed - searched,
                "report": ended - confirmed,
                "total": ended - began,
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
    )


def _resolved(setup: SetSetup) -> str:
    """The study file with every path absolute and categories of one's own written out."""
    content = yaml.safe_load(resolved_study(setup.first))
    config = setup.config
    if config.classes:
        resolved = {label: yaml.safe_load(resolved_study(own)) for label, own in setup.classes.items()}
        content |= {
            "category": None,
            "positives": None,
            "classes": {label: {"category": own["category"]} for label, own in resolved.items()},
        }
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
