"""The finished runs that exports, augmentation and the like start from: both kinds, read in one place."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from generators.family import MAIN, member_name, split_settings
from promptopt.config.generator_uris import varied_members
from promptopt.config.study_file import StudyConfig, StudyError, load_study
from promptopt.run.class_prompts import class_prompts
from promptopt.run.errors import ExportError
from promptopt.run.folder import DATABASE, PROMPTS, STUDY
from promptopt.run.prompt_sets import SETS, ClassEntry, SetList, read_sets
from promptopt.run.prompts import Network, PromptEntry, PromptList, read_prompts
from promptopt.space.of_category import class_studies, open_category


@dataclass(frozen=True)
class FinishedRun:
    """A run with confirmed prompts.

    A study of sets is one of these for each class, its prompts those of the class's set.

    Attributes:
        folder: the run folder.
        prompts: what its prompts.json says; of a study of sets, what it says of this class.
        addresses: of the generators by member name; a path is absolute where the run's study.yaml still says
            so. As a rule there is the main one alone.
        entry: the class, in a study of sets.
        config: the run's own study file, of this class alone; None where it cannot be read.
    """

    folder: Path
    prompts: PromptList
    addresses: Mapping[str, str]
    entry: ClassEntry | None = None
    config: StudyConfig | None = None

    @property
    def label(self) -> str:
        """The category or label of the real images."""
        return str(self.prompts.settings.get("positives", self.prompts.category))

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


def read_confirmed(path: str | Path) -> PromptList | SetList:
    """A prompts.json of either kind: of single prompts, or of sets.

    Raises:
        StudyError: missing, not JSON, or of neither format.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        content = None  # said by the reader below
    if isinstance(content, dict) and content.get("format") == SETS:
        return read_sets(path)
    return read_prompts(path)


def single_prompts(folder: str | Path, *, instead: str) -> PromptList:
    """The prompts of a run of single prompts, for what has no meaning for a set.

    Args:
        instead: what to do with a study of sets.

    Raises:
        StudyError: a study of sets, or what `read_confirmed` raises.
    """
    path = Path(folder) / PROMPTS
    found = read_confirmed(path)
    if isinstance(found, SetList):
        raise StudyError(f"{path}: a study of sets, and this is for studies with aim: single. {instead}")
    return found


def read_finished(path: str | Path) -> list[FinishedRun]:
    """The confirmed prompts of a run folder (or of the prompts.json in it), one item a class.

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
    found = read_confirmed(folder / PROMPTS)
    configs = _configs(folder)
    if isinstance(found, SetList):
        lists = [(class_prompts(found, entry), entry) for entry in found.classes]
        runs = [_finished(folder, prompts, configs.get(entry.label), entry) for prompts, entry in lists]
    else:
        if not any(entry.confirmation for entry in found.prompts):
            raise ExportError(
                f"{folder / PROMPTS}: the study {found.study!r} has no confirmed prompt, so there is no "
                f"result to export. {_command(folder)}"
            )
        runs = [_finished(folder, found, next(iter(configs.values()), None), None)]
    for run in runs:
        weights = [entry.weight for entry in run.prompts.prompts]
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) <= 0:
            raise ExportError(
                f"{folder / PROMPTS}: the weights {weights} are no shares; they must be 0 or more, one of "
                f"them above 0. {_command(folder)}"
            )
    return runs


def read_runs(paths: Sequence[str | Path]) -> list[FinishedRun]:
    """Several runs in their order, each class once.

    Raises:
        ExportError: as `read_finished`, or two runs of one category whose studies have the same name.
    """
    if not paths:
        raise ExportError("no run is given; give at least one run folder")
    runs = [run for path in paths for run in read_finished(path)]
    seen: dict[tuple[str, str, str], Path] = {}
    for run in runs:
        key = (run.prompts.category, run.prompts.study, run.entry.label if run.entry else "")
        if key in seen:
            raise ExportError(
                f"{seen[key]} and {run.folder}: both are the study {key[1]!r} of the category {key[0]!r}, so "
                "nothing would tell their prompts apart; give one of them"
            )
        seen[key] = run.folder
    return runs


def _configs(folder: Path) -> dict[str, StudyConfig]:
    """The run's own study file, with absolute paths, by class."""
    try:
        return class_studies(load_study(folder / STUDY))
    except StudyError:
        return {}


def _finished(
    folder: Path, prompts: PromptList, config: StudyConfig | None, entry: ClassEntry | None
) -> FinishedRun:
    networks = {MAIN: prompts.generator, **prompts.generators}
    found: dict[str, str] = {}
    if config is not None:  # prompts.json has the user's words, the study file absolute paths
        with contextlib.suppress(StudyError):
            parameters = open_category(config).generation_parameters
            found = {member_name(*member): uri for member, uri in varied_members(config, parameters).items()}
    addresses = {name: found.get(name, network.uri) for name, network in networks.items()}
    return FinishedRun(folder, prompts, addresses, entry, config)


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
