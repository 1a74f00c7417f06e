"""Runs brought up to date in a team's database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from promptopt.base.reading import json_object
from promptopt.config.study_file import StudyError
from promptopt.publishing.copying import bring_up_to_date
from promptopt.publishing.database import NAMES, Database
from promptopt.publishing.notes import note_text, notes_installed, sheet_links, write_note
from promptopt.publishing.target import PublishError, Target
from promptopt.run import folder as runfolder
from promptopt.run.finished import read_confirmed
from promptopt.run.identity import RunIdentity, default_user, run_identity
from promptopt.run.snapshot import StudyCopy, database_of, read_copies

if TYPE_CHECKING:
    from promptopt.publishing.pictures import Sheets

_LONGEST = 480  # characters of a study's name; Optuna's column has 512
_KEPT = ("uuid", "class")  # a published study's attributes that say which one it is


@dataclass(frozen=True)
class PublishedStudy:
    """A study of the database, and how many trials this update added and changed."""

    name: str
    trials: int
    added: int
    changed: int


@dataclass(frozen=True)
class PublishedRun:
    """A run's studies in the database; `finished` where no more will come, as far as one knows."""

    folder: Path
    studies: tuple[PublishedStudy, ...]
    finished: bool

    @property
    def added(self) -> int:
        """Trials that the update added."""
        return sum(one.added for one in self.studies)

    @property
    def changed(self) -> int:
        """Trials that it changed."""
        return sum(one.changed for one in self.studies)


class Publisher:
    """Copies the Optuna studies of runs into one database, each under USER/RUN or USER/RUN/CLASS.

    A uuid in the run folder says which studies are the run's, whatever their names.

    Args:
        target: the database.
        user: in place of the name in the run folder; see `promptopt.run.identity`.
        artifacts: a folder or URL for contact sheets of the prompts; None makes none.
        store: of the runs' images, for the sheets.

    Raises:
        PublishError: the place of the artifacts cannot be used.

    Example:
        >>> import tempfile
        >>> from promptopt import Study
        >>> folder = tempfile.mkdtemp()
        >>> content = {
        ...     "name": "first",
        ...     "aim": "single",
        ...     "category": "polyps",
        ...     "data": {"phantom": {"images": 180}},
        ...     "search": {"trials": 2, "images": 4, "racing": False},
        ...     "confirm": {"top": 1, "images": 4},
        ... }
        >>> result = Study(content, runs=folder + "/runs", store=folder + "/store").run()
        >>> publisher = Publisher(Target.parse(f"sqlite:///{folder}/team.db"), user="anna")
        >>> run = publisher.update(result.folder)
        >>> run.studies[0].name, run.added, publisher.update(result.folder).added
        ('anna/first', 2, 0)
    """

    def __init__(
        self,
        target: Target,
        *,
        user: str | None = None,
        artifacts: str | None = None,
        store: str | Path = "store",
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.target = target
        self._database = Database(target)
        self._user = user
        self._store = store
        self._artifacts = None
        if artifacts is not None:
            from promptopt.publishing.pictures import artifact_store

            self._artifacts = artifact_store(artifacts)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def update(self, run: Path) -> PublishedRun:
        """Add what a run has and the database has not; a run may be running.

        Raises:
            PublishError: the database cannot be reached or written.
            StudyError: not a run folder, or a damaged one.
        """
        database_of(run)
        identity = run_identity(run, user=self._user)
        settings = json_object(run / runfolder.SETTINGS, error=StudyError, remedy="Restore it.")
        of_sets = settings.get("aim") == "set"
        sheets = self._sheets(run, identity)
        with self._database.updating(identity.uuid) as storage:
            # read under the lock: what was read before may be older than what another publisher has written
            state = _read(run)
            about = {
                "uuid": identity.uuid,
                "user": identity.user,
                "run": run.resolve().name,
                "state": "finished" if state.finished else "not finished",
                "result": state.sentence,
            }
            studies = tuple(
                self._study(storage, copy, about, sheets.get(copy.name if of_sets else ""), of_sets=of_sets)
                for copy in state.copies
            )
        return PublishedRun(run, studies, state.finished)

    def _study(
        self,
        storage: Any,
        copy: StudyCopy,
        about: dict[str, str],
        sheets: Sheets | None,
        *,
        of_sets: bool,
    ) -> PublishedStudy:
        about = {**about, "class": copy.name if of_sets else ""}
        study_id = self._find(storage, about, copy)
        there = storage.get_study_user_attrs(study_id)
        for key, value in {**copy.attributes, **about}.items():
            if there.get(key) != value:
                storage.set_study_user_attr(study_id, key, value)
        name = storage.get_study_name_from_id(study_id)
        copied = bring_up_to_date(
            storage, study_id, copy.trials, name=name, extra=None if sheets is None else sheets.attributes
        )
        if notes_installed():
            links = sheet_links(study_id, copy, copied.there, about)
            write_note(storage, study_id, note_text(about, links))
        return PublishedStudy(name, len(copy.trials), copied.added, copied.changed)

    def _find(self, storage: Any, about: dict[str, str], copy: StudyCopy) -> int:
        """The study of this uuid and class, made if missing."""
        own = {key: about[key] for key in _KEPT}
        name = "/".join(about[key] for key in ("user", "run", "class") if about[key])[:_LONGEST]
        names = [name, f"{name} ({about['uuid'][:8]})"]
        for one in names:
            if (study_id := _id_of(storage, one)) is not None and _is(storage, study_id, own):
                return study_id
        for study in storage.get_all_studies():  # the run or its user had another name
            if all(study.user_attrs.get(key) == value for key, value in own.items()):
                return int(study._study_id)
        with self._database.locked(NAMES):
            for one in names:
                study_id = _id_of(storage, one)
                if study_id is None:
                    study_id = storage.create_new_study(list(copy.directions), one)
                elif "uuid" in storage.get_study_user_attrs(study_id) or storage.get_n_trials(study_id):
                    continue  # another run's; one without a uuid and trials was left by a killed process
                for key, value in own.items():
                    storage.set_study_user_attr(study_id, key, value)
                if copy.metric_names:
                    study = optuna.load_study(study_name=one, storage=storage)
                    study.set_metric_names(list(copy.metric_names))
                return int(study_id)
        raise PublishError(f"{self.target}: both {names[0]!r} and {names[1]!r} are studies of other runs")

    def _sheets(self, run: Path, identity: RunIdentity) -> dict[str, Sheets]:
        """Label of a class, or "" -> its contact sheets."""
        if self._artifacts is None:
            return {}
        from promptopt.publishing.pictures import Sheets
        from promptopt.run.images import RunImages

        classes = RunImages.open_classes(run, store=self._store)
        return {images.label or "": Sheets(self._artifacts, images, identity) for images in classes}


def check_publishing(text: str) -> Target:
    """The database of an address, looked at as far as one can without reaching it.

    Raises:
        TargetError: as `Target.parse`.
        StudyError: whoever publishes has no name.
    """
    target = Target.parse(text)
    default_user()
    return target


@dataclass(frozen=True)
class _State:
    """A run at one time."""

    finished: bool
    sentence: str
    copies: list[StudyCopy]


def _read(run: Path) -> _State:
    try:
        # asked before the trials are read: what a study wrote as it ended is among them
        finished = (run / runfolder.PROMPTS).is_file() and not runfolder.is_running(run)
        sentence = read_confirmed(run / runfolder.PROMPTS).sentence if finished else ""
        return _State(finished, sentence, read_copies(run))
    except OSError as error:  # which would count as the team's database's
        raise StudyError(f"cannot be read ({error.strerror or error})", file=run) from error


def _id_of(storage: Any, name: str) -> int | None:
    try:
        return int(storage.get_study_id_from_name(name))
    except KeyError:
        return None


def _is(storage: Any, study_id: int, own: dict[str, str]) -> bool:
    attributes = storage.get_study_user_attrs(study_id)
    return all(attributes.get(key) == value for key, value in own.items())
