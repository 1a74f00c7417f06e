"""The runs of a folder in a list, and some of them side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.config.study_file import StudyError, load_study
from promptopt.formatting.numbers import count, in_cell, p_value, points
from promptopt.run import folder as runfolder
from promptopt.run.finished import read_confirmed
from promptopt.run.prompt_sets import ClassEntry, SetList
from promptopt.run.prompts import PromptList
from promptopt.run.set_names import LESS
from promptopt.study.sets.words import nearer


@dataclass(frozen=True)
class ListedRun:
    """A run folder: `aim` is "set" or "single", `state` finished, running, not finished or damaged."""

    name: str
    aim: str
    state: str
    sentence: str


@dataclass(frozen=True)
class ComparedRuns:
    """Runs side by side.

    Attributes:
        names: of the runs, made different by their folders where needed.
        rows: what, and its value in each run.
        same_data: whether all of them have the same real images.
        of_sets: whether all of them are of sets.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    same_data: bool
    of_sets: bool


def list_runs(runs: str | Path) -> list[ListedRun]:
    """The run folders in a folder, by name.

    Raises:
        StudyError: no such folder, or no run in it.
    """
    folder = Path(runs)
    found = sorted(path.parent for path in folder.glob(f"*/{runfolder.DATABASE}")) if folder.is_dir() else []
    if not found:
        raise StudyError(
            f"{folder}: {'no run is in it' if folder.is_dir() else 'there is no such folder'}. Run a study "
            "(promptopt study run STUDY.yaml), or give the folder of your runs."
        )
    return [_listed(path) for path in found]


def compare_runs(folders: Sequence[str | Path]) -> ComparedRuns:
    """What two finished runs or more searched and found, and the settings in which they differ.

    Raises:
        StudyError: one that is not finished, or damaged.
    """
    paths = [Path(one) for one in folders]
    for path in paths:
        if not (path / runfolder.PROMPTS).is_file():
            raise StudyError(f"{path}: is no finished run. Finish it, or leave it out.")
    found = [read_confirmed(path / runfolder.PROMPTS) for path in paths]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    columns = [dict(facts(one)) for one in found]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [(key, tuple(column.get(key, "-") for column in columns)) for key in keys]
    settings = [dict(_flat(_settings(path))) for path in paths]
    for key in dict.fromkeys(key for own in settings for key in own):
        values = [own.get(key) for own in settings]
        if any(value != values[0] for value in values) and key not in ("name", "data"):
            rows.append((key, tuple("-" if value is None else _short(value) for value in values)))
    return ComparedRuns(
        tuple(names),
        tuple(rows),
        same_data=len({one.data for one in found}) == 1,
        of_sets=all(isinstance(one, SetList) for one in found),
    )


def _listed(path: Path) -> ListedRun:
    if (path / runfolder.PROMPTS).is_file():
        try:
            found = read_confirmed(path / runfolder.PROMPTS)
        except StudyError as error:
            return ListedRun(path.name, "-", "damaged", str(error))
        aim = "set" if isinstance(found, SetList) else "single"
        return ListedRun(path.name, aim, "finished", found.sentence)
    from promptopt.study.run import show

    try:
        rows = show(path)
    except StudyError as error:
        return ListedRun(path.name, "-", "damaged", str(error))
    state = "running" if runfolder.is_running(path) else "not finished"
    if rows.classes:
        images = sum(one.images for one in rows.classes)
        told = (
            f"{count(images, 'image')} of {count(sum(one.prompts for one in rows.classes), 'prompt')} so far"
        )
        return ListedRun(path.name, "set", state, told)
    prompts = len({row.candidate.normalized_key for row in rows.trials})
    return ListedRun(path.name, "single", state, f"{count(prompts, 'prompt')} so far")


def facts(found: PromptList | SetList) -> Iterator[tuple[str, str]]:
    """What a finished run searched with and found: (what, its value as text)."""
    yield "result", found.sentence
    yield "generator", f"{found.generator.uri} ({found.generator.fingerprint[:8]})"
    yield "encoder", f"{found.encoder.uri} ({found.encoder.fingerprint[:8]})"
    if isinstance(found, PromptList):
        yield "prompts measured", f"{found.prompts_scored:,} of {found.prompts_in_space:,}"
        if found.images_in_search is not None:
            yield "images of the search", f"{found.images_in_search:,}"
        first = found.prompts[0]
        yield "best prompt", first.label
        yield "score (95 %)", in_cell(first.confirmation.get("score"), "+.2f")
        yield "p", p_value(first.p_value)
        return
    for name in ("set", "learned", "single", "random", "baseline", "real"):
        if name in found.accuracy:
            yield f"accuracy, {name}", points(found.accuracy[name], sign="")
    for one in found.classes:
        yield from _of_class(one)


def _of_class(one: ClassEntry) -> Iterator[tuple[str, str]]:
    yield f"{one.label}: prompts of the set", str(len(one.set.prompts))
    yield f"{one.label}: images of the search", f"{one.images_in_search:,}"
    for pair in one.comparisons:
        if (pair.first, pair.second, pair.metric) == ("set", "baseline", "closeness"):
            yield f"{one.label}: nearer than the baseline", f"{in_cell(nearer(pair), '+.0f', scale=LESS)}"
            yield f"{one.label}: p, verdict", f"{p_value(pair.p_adjusted)}, {pair.verdict}"


def _settings(path: Path) -> dict[str, Any]:
    try:
        config = load_study(path / runfolder.STUDY)
    except StudyError:  # of another version: its numbers are compared all the same
        return {}
    content: dict[str, Any] = config.as_written(
        config.model_dump(mode="json", exclude={"classes", "category"})
    )
    return content


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
