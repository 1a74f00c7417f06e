"""What tables are made of: finished run folders and folders of `compare-generators`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.estimate import Estimate
from evaluation.features.image_set import ImageSet
from promptopt.base.errors import PromptoptError
from promptopt.comparison.run import REAL, GeneratorComparison
from promptopt.comparison.scopes import Scope
from promptopt.comparison.scores import Score
from promptopt.export.paper.sets import SetRun
from promptopt.run import folder as runfolder
from promptopt.run.prompt_sets import SetList

if TYPE_CHECKING:
    from promptopt.run.prompts import PromptList

DOCUMENT = "comparison.json"
SAMPLES = "samples.png"


class TablesError(PromptoptError, ValueError):
    """Tables cannot be made from a folder; the message says which, and what is expected."""


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with its prompts.json."""

    folder: Path
    prompts: PromptList


@dataclass(frozen=True)
class Comparisons:
    """Comparisons measured on the same real images in the same way, as one.

    Attributes:
        name: of the prepared set's folder.
        merged: all their scores; of the real images' row, which stands in each, the first.
        folders: where they lie, in order.
        settings: pool, seed, images a prompt and the like, as one text.
    """

    name: str
    merged: GeneratorComparison
    folders: tuple[Path, ...]
    settings: str


@dataclass(frozen=True)
class _Read:
    folder: Path
    document: dict[str, Any]
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Sources:
    """All that tables are made of: comparisons, studies of single prompts, studies of sets."""

    comparisons: list[Comparisons]
    runs: list[FinishedRun]
    sets: list[SetRun]


def read_sources(paths: Sequence[str | Path]) -> Sources:
    """Read folders (or the JSON files in them), each a comparison or a finished run.

    Comparisons on the same data, pool, centers and encoders become one; a generator's name that comes twice
    gets its folder's name before it.

    Raises:
        TablesError: no path, a path twice, a folder that is neither, a run that is not finished, or a damaged
            comparison.json.
        promptopt.config.study_file.StudyError: a damaged prompts.json.
    """
    from promptopt.run.finished import read_confirmed

    folders = [_folder(Path(path)) for path in paths]
    if not folders:
        raise TablesError("no folder; give run folders and folders of compare-generators")
    for folder, count in Counter(folder.resolve() for folder in folders).items():
        if count > 1:
            raise TablesError(f"{folder}: given {count} times; give it once")
    read: list[_Read] = []
    runs: list[FinishedRun] = []
    sets: list[SetRun] = []
    for folder in folders:
        if (folder / DOCUMENT).is_file():
            read.append(_read(folder))
        elif (folder / runfolder.PROMPTS).is_file():
            found = read_confirmed(folder / runfolder.PROMPTS)
            if isinstance(found, SetList):
                sets.append(SetRun(folder, found))
            else:
                runs.append(FinishedRun(folder, found))
        elif (folder / runfolder.DATABASE).is_file():
            raise TablesError(
                f"{folder}: the study is not finished, {runfolder.PROMPTS} is missing. Run its command again."
            )
        else:
            raise TablesError(
                f"{folder}: neither a run folder (with {runfolder.PROMPTS}) nor one of compare-generators "
                f"(with {DOCUMENT}). Give folders such as runs/polyps and work/comparison."
            )
    groups: dict[str, list[_Read]] = {}
    for one in read:
        groups.setdefault(_measured(one.document), []).append(one)
    return Sources([_merge(group) for group in groups.values()], runs, sets)


def _folder(path: Path) -> Path:
    if path.name in (DOCUMENT, runfolder.PROMPTS) and path.is_file():
        return path.parent
    if not path.is_dir():
        raise TablesError(f"{path}: no such folder. Give run folders and folders of compare-generators.")
    return path


def _read(folder: Path) -> _Read:
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != "promptopt-generator-comparison" or document["version"] != 1:
            raise ValueError(f"format {document['format']!r}, version {document['version']!r}")
        scores = tuple(
            Score(**{**score, "estimate": Estimate.from_json(score["estimate"])})
            for score in document["scores"]
        )
        _measured(document)
        return _Read(folder, document, scores)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TablesError(
            f"{path}: not a comparison ({type(error).__name__}: {error}). Run compare-generators again."
        ) from error


def _measured(document: dict[str, Any]) -> str:
    """Equal for comparisons whose numbers may stand in one table."""
    settings = {key: value for key, value in document["settings"].items() if key in ("pool", "single")}
    return json.dumps(
        [
            document["data"]["fingerprint"],
            settings,
            sorted(encoder["fingerprint"] for encoder in document["encoders"]),
            document["scopes"],
        ],
        sort_keys=True,
    )


def _merge(group: Sequence[_Read]) -> Comparisons:
    first = group[0].document
    names = Counter(name for one in group for name in {s.generator for s in one.scores} - {REAL})
    scores: list[Score] = []
    for index, one in enumerate(group):
        for score in one.scores:
            if score.generator == REAL:
                scores += [score] if index == 0 else []
            elif names[score.generator] > 1:
                scores.append(replace(score, generator=f"{one.folder.resolve().name}/{score.generator}"))
            else:
                scores.append(score)
    notes = tuple(dict.fromkeys(note for one in group for note in one.document["notes"]))
    merged = GeneratorComparison(
        scopes=tuple(Scope("", title) for title in first["scopes"]),
        scores=tuple(scores),
        made=(),
        prompts=(),
        real=ImageSet(Path(), (), {}, first["data"]["fingerprint"]),
        training=(),
        notes=notes,
        facts={key: first[key] for key in ("settings", "data", "encoders", "versions")},
    )
    settings = ", ".join(f"{key} {value}" for key, value in first["settings"].items() if value is not None)
    name = Path(first["data"]["folder"]).name
    return Comparisons(name, merged, tuple(one.folder for one in group), settings)
