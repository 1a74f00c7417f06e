"""The finished runs that an export starts from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from generators.family import MAIN, member_name, split_settings
from promptopt.config.generator_uris import varied_members
from promptopt.config.study_file import StudyError, load_study
from promptopt.run.errors import ExportError
from promptopt.run.folder import DATABASE, PROMPTS, STUDY
from promptopt.run.prompts import Network, PromptEntry, PromptList, read_prompts
from promptopt.space.of_category import open_category


@dataclass(frozen=True)
class FinishedRun:
    """A run with confirmed prompts.

    Attributes:
        folder: the run folder.
        prompts: what its prompts.json says.
        addresses: of the generators by member name; a path is absolute where the run's study.yaml still says
            so. As a rule there is the main one alone.
    """

    folder: Path
    prompts: PromptList
    addresses: Mapping[str, str]

    @property
    def submitted(self) -> tuple[PromptEntry, ...]:
        """The prompts with a share in the portfolio, in order of rank."""
        return tuple(entry for entry in self.prompts.prompts if entry.weight > 0)

    @property
    def network(self) -> Network:
        """The generator of the submitted prompts. Raises ExportError where they have several."""
        return self._network[1]

    @property
    def address(self) -> str:
        """Where that one is."""
        return self.addresses[self._network[0]]

    @property
    def _network(self) -> tuple[str, Network]:
        names = {split_settings(entry.generation_parameters or {})[0]: entry for entry in self.submitted}
        if not self.prompts.generators:
            return MAIN, self.prompts.generator
        if len(names) > 1:
            raise ExportError(
                f"{self.folder}: the prompts of its portfolio have several generators ({', '.join(names)}), "
                "and a submission has one for each category; run the study again with "
                "--set portfolio.size=1, which draws nothing anew"
            )
        ((name, entry),) = names.items()
        return name, self.prompts.drawn_with(entry.generation_parameters)


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
    return FinishedRun(folder, prompts, _addresses(folder, prompts))


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


def _addresses(folder: Path, prompts: PromptList) -> dict[str, str]:
    """The run's own study file has absolute paths; prompts.json has the user's words."""
    networks = {MAIN: prompts.generator, **prompts.generators}
    try:
        config = load_study(folder / STUDY)
        parameters = open_category(config).generation_parameters
        found = {member_name(*member): uri for member, uri in varied_members(config, parameters).items()}
    except StudyError:
        found = {}
    return {name: found.get(name, network.uri) for name, network in networks.items()}


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
