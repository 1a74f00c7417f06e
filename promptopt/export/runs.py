"""The finished runs that an export starts from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promptopt.config import StudyError, load_study
from promptopt.export.errors import ExportError
from promptopt.export.prompts import PromptEntry, PromptList, read_prompts
from promptopt.runfolder import DATABASE, PROMPTS, STUDY


@dataclass(frozen=True)
class FinishedRun:
    """A run with confirmed prompts.

    Attributes:
        folder: the run folder.
        prompts: what its prompts.json says.
        generator: address of the generator; a path is absolute where the run's study.yaml still says so.
    """

    folder: Path
    prompts: PromptList
    generator: str

    @property
    def submitted(self) -> tuple[PromptEntry, ...]:
        """The prompts with a share in the portfolio, in order of rank."""
        return tuple(entry for entry in self.prompts.prompts if entry.weight > 0)


def read_run(path: str | Path) -> FinishedRun:
    """The confirmed prompts of a run folder (or of the prompts.json in it).

    Raises:
        ExportError: no such folder, a study that is not finished (with the command that finishes it), or one
            without confirmed prompts, or with weights that are no shares.
        StudyError: a prompts.json that is damaged.
    """
    folder = Path(path)
    if folder.name == PROMPTS and not folder.is_dir():
        folder = folder.parent
    if not folder.is_dir():
        raise ExportError(f"{folder}: there is no such run folder; give one such as runs/quickstart-polyps")
    if not (folder / PROMPTS).is_file():
        raise ExportError(_unfinished(folder))
    prompts = read_prompts(folder / PROMPTS)
    where = folder / PROMPTS
    if not any(entry.confirmation for entry in prompts.prompts):
        raise ExportError(
            f"{where}: the study {prompts.study!r} has no confirmed prompt, so there is no result to export. "
            f"{_command(folder)}"
        )
    weights = [entry.weight for entry in prompts.prompts]
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) <= 0:
        raise ExportError(
            f"{where}: the weights {weights} are no shares; they must be 0 or more, one of them above 0. "
            f"{_command(folder)}"
        )
    return FinishedRun(folder, prompts, _generator(folder, prompts))


def read_runs(paths: Sequence[str | Path]) -> list[FinishedRun]:
    """Several runs in their order, each once.

    Raises:
        ExportError: as `read_run`, or two runs of one category whose studies have the same name.
    """
    if not paths:
        raise ExportError("no run is given; give at least one run folder")
    runs = [read_run(path) for path in paths]
    seen: dict[tuple[str, str], Path] = {}
    for run in runs:
        key = (run.prompts.category, run.prompts.study)
        if key in seen:
            raise ExportError(
                f"{seen[key]} and {run.folder}: both are the study {key[1]!r} of the category {key[0]!r}, so "
                "nothing would tell their prompts apart; give one of them"
            )
        seen[key] = run.folder
    return runs


def _generator(folder: Path, prompts: PromptList) -> str:
    """The run's own study file has absolute paths; prompts.json has the user's words."""
    try:
        config = load_study(folder / STUDY)
    except StudyError:
        return prompts.generator.uri
    return config.resolve(config.generator.uri)


def _unfinished(folder: Path) -> str:
    if not (folder / DATABASE).is_file():
        return (
            f"{folder}: not a run folder, it has neither {PROMPTS} nor {DATABASE}. Give the folder that "
            "`promptopt study run` wrote."
        )
    return f"{folder}: this study is not finished, {PROMPTS} is missing. {_command(folder)}"


def _command(folder: Path) -> str:
    study = folder / STUDY
    if not study.is_file():
        return "Run `promptopt study run` with its study file again; it goes on where it stopped."
    runs = shlex.join(["promptopt", "study", "run", str(study), "--runs", str(folder.parent)])
    return f"Finish it: {runs} (with the --store it was started with)"
