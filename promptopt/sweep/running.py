"""Runs of a sweep, one after the other: finished ones are skipped, failed ones named at the end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from promptopt.base.errors import PromptoptError
from promptopt.base.files import writable_folder, write_json, write_text
from promptopt.base.settings import read_json
from promptopt.formatting.tables import csv_table
from promptopt.run import folder as runfolder
from promptopt.search.engine import images_made
from promptopt.space.of_category import class_studies, compile_space, open_category
from promptopt.study.listing import facts
from promptopt.study.observer import Observer, Observers
from promptopt.study.opening import makers_of
from promptopt.study.preview import most_images
from promptopt.study.run import StudyResult, run_study, show
from promptopt.sweep.file import Sweep, SweepError, Variant, networks

if TYPE_CHECKING:
    from generators.making.makers import Makers

STATE = "sweep.json"
TABLE = "sweep.csv"
State = Literal["finished", "failed", "unfinished", "new"]


class RunRecord(BaseModel):
    """What sweep.json says of a run.

    Attributes:
        values: what is varied -> its value here.
        state: "unfinished" has a run folder, "new" has none.
        digest: of the settings that it was finished with.
        images: made by this sweep, as far as its process was not killed; `seconds` it took.
        error: of the last attempt, where that failed.
        facts: what it found, as `study compare` says it.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    values: dict[str, str]
    state: State = "new"
    digest: str = ""
    images: int = 0
    seconds: float = 0.0
    error: str = ""
    facts: dict[str, str] = Field(default_factory=dict)


class SweepState(BaseModel):
    """The content of sweep.json."""

    model_config = ConfigDict(extra="forbid")

    sweep: str
    runs: list[RunRecord] = Field(default_factory=list)


@dataclass(frozen=True)
class PlannedRun:
    """A run before the sweep: `images` are the most that it still makes, in search and confirmation."""

    variant: Variant
    state: State
    images: int


@dataclass
class SweepRunner:
    """A sweep and where it lies.

    Args:
        sweep: the studies.
        out: folder of sweep.json and sweep.csv.
        runs, store, device, on: as of `promptopt.study.run.run_study`.

    Raises:
        SweepError: sweep.json is damaged, or another sweep's.
    """

    sweep: Sweep
    out: Path
    runs: Path = Path("runs")
    store: Path = Path("store")
    device: str = "auto"
    on: str = "here"
    _makers: Makers | None = field(default=None, init=False)
    _made_for: str = field(default="", init=False)

    def __post_init__(self) -> None:
        path = self.out / STATE
        before = SweepState(sweep=self.sweep.name)
        if path.exists():
            remedy = "Remove it: finished runs make no image again."
            before = read_json(SweepState, path, error=SweepError, remedy=remedy)
            if before.sweep != self.sweep.name:
                raise SweepError(
                    f"is of the sweep {before.sweep}", file=path, remedy="Give another folder (--out)."
                )
        known = {one.name: one for one in before.runs}
        self.records = {
            one.name: known.get(one.name, RunRecord(name=one.name, values=dict(one.values)))
            for one in self.sweep.variants
        }
        for variant in self.sweep.variants:
            self.records[variant.name].state = self._state(variant)

    def planned(self) -> list[PlannedRun]:
        """Every run with what it costs. Raises StudyError for a category that cannot be used."""
        return [
            PlannedRun(one, self.records[one.name].state, self._images(one)) for one in self.sweep.variants
        ]

    def seconds_an_image(self) -> float | None:
        """By the runs of this sweep that made images; None before there are any."""
        images = sum(one.images for one in self.records.values())
        return sum(one.seconds for one in self.records.values()) / images if images else None

    def run(
        self,
        *,
        observer: Callable[[Variant], AbstractContextManager[Observer]],
        on_failure: Callable[[Variant, str], None],
        run: Callable[..., Any] = run_study,
    ) -> list[RunRecord]:
        """Run what is not finished; the records of all runs, which sweep.json and sweep.csv have too.

        Args:
            observer: opens what watches a run.
            on_failure: called with a run and what went wrong; the next one follows.
            run: in place of `run_study`.
        """
        writable_folder(self.out, "the sweep", error=SweepError)
        try:
            for variant in self.sweep.variants:
                record = self.records[variant.name]
                if record.state == "finished":
                    continue
                try:
                    with observer(variant) as watching, _counted(record) as counting:
                        result = run(
                            variant.config,
                            runs=self.runs,
                            store=self.store,
                            device=self.device,
                            on=self.on,
                            observer=Observers(watching, counting),
                            makers=self._workers(variant),
                        )
                except Exception as error:  # noqa: BLE001  whatever ends one study, the others have their turn
                    self._close()
                    record.state, record.error = "failed", _said(error)
                    on_failure(variant, record.error if isinstance(error, PromptoptError) else _trace(error))
                else:
                    record.state, record.error, record.digest = "finished", "", variant.digest
                    found = result.prompts if isinstance(result, StudyResult) else result.sets
                    record.facts = dict(facts(found))
                self._write()
        finally:
            self._close()
            self._write()
        return list(self.records.values())

    def _state(self, variant: Variant) -> State:
        folder, record = self.runs / variant.name, self.records[variant.name]
        if (folder / runfolder.PROMPTS).is_file() and record.digest == variant.digest:
            return "finished"
        if record.state == "failed":
            return "failed"
        return "unfinished" if (folder / runfolder.DATABASE).is_file() else "new"

    def _images(self, variant: Variant) -> int:
        folder = self.runs / variant.name
        if self.records[variant.name].state == "finished":
            return 0
        sizes = [
            compile_space(open_category(one), one.source).size
            for one in class_studies(variant.config).values()
        ]
        most = most_images(variant.config, sizes)
        if not (folder / runfolder.DATABASE).is_file():
            return most
        found = show(folder)
        made = sum(one.images for one in found.classes) if found.classes else images_made(found.trials)
        return max(0, most - made)

    def _workers(self, variant: Variant) -> Makers | None:
        """Those of the run before, where they have loaded the same networks."""
        if self.on == "here":
            return None
        if self._makers is None or self._made_for != networks(variant.config):
            self._close()
            self._made_for = networks(variant.config)
            self._makers = makers_of(
                variant.config, self.on, device=self.device, store=self.store, features=True
            )
        return self._makers

    def _close(self) -> None:
        if self._makers is not None:
            self._makers.close()
        self._makers = None

    def _write(self) -> None:
        records = list(self.records.values())
        state = SweepState(sweep=self.sweep.name, runs=records)
        write_json(self.out / STATE, state.model_dump(mode="json"), ensure_ascii=False)
        header, rows = table(records)
        write_text(self.out / TABLE, csv_table(header, rows, exact=True))


class _Count(Observer):
    images = 0

    def on_image(self, generated: bool) -> None:
        self.images += generated


@contextmanager
def _counted(record: RunRecord) -> Iterator[Observer]:
    """Adds what an attempt made, and how long that took, however it ends."""
    count, began = _Count(), time.monotonic()
    try:
        yield count
    finally:
        record.images += count.images
        record.seconds += time.monotonic() - began if count.images else 0.0


def table(records: list[RunRecord]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows: a run each, with what is varied and what it found."""
    axes = list(dict.fromkeys(key for one in records for key in one.values))
    names = list(dict.fromkeys(key for one in records for key in one.facts))
    header = ["run", *axes, "state", "images", "seconds", *names, "error"]
    return header, [list(_cells(one, axes, names)) for one in records]


def _cells(one: RunRecord, axes: list[str], names: list[str]) -> Iterator[Any]:
    yield one.name
    yield from (one.values.get(key, "") for key in axes)
    yield from (one.state, one.images, round(one.seconds, 1))
    yield from (one.facts.get(key, "") for key in names)
    yield one.error


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, PromptoptError) else f"{type(error).__name__}: {error}"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()
