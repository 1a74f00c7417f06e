"""The dashboard's own database: a readable copy of a run, with the images of every prompt.

`RUN/dashboard/` holds `dashboard.db` and the pictures. The run's study.db is only ever read (see
`promptopt.run.snapshot`): whatever is renamed, noted or deleted in the browser happens to the copy, and a
study that runs at the same time is neither locked nor changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from evaluation.estimate import Estimate
from promptopt.base.files import writable_folder
from promptopt.config.study_file import StudyError
from promptopt.formatting.numbers import value_and_interval
from promptopt.formatting.pictures import image_grid, png_bytes
from promptopt.run import folder as runfolder
from promptopt.run.database import BROKEN, DamagedError, broken, open_storage, reopen, report, running
from promptopt.run.images import RunImages
from promptopt.run.snapshot import RunTrials, read_studies
from promptopt.space import Candidate
from promptopt.web.dashboard.notes import confirmed_set_note, set_note, study_note, trial_note
from promptopt.web.dashboard.of_sets import ADDS, DISTANCE, WEIGHT, of_methods, of_set_trial
from promptopt.web.dashboard.shown import LOOKS, Shown, looks, of_prompts, of_trial

if TYPE_CHECKING:
    from promptopt.run.prompts import PromptList

FOLDER = "dashboard"
DATABASE = "dashboard.db"
ARTIFACTS = "artifacts"
_MOST = 16  # images in a trial's picture
_ARTIFACT = "artifacts:"  # optuna.artifacts' key of a trial's system attributes


@dataclass
class Copied:
    """What an update added and changed; `images_found` of `images_wanted` are in these trials' pictures."""

    trials: int = 0
    changed: int = 0
    images_found: int = 0
    images_wanted: int = 0


class DashboardCopy:
    """The copy of one run; `update` brings it up to date.

    Args:
        classes: images of the run, of each class where it searched sets (`RunImages.open_classes`).
        folder: where the copy lies; default RUN/dashboard.
    """

    def __init__(self, classes: Sequence[RunImages], *, folder: Path | None = None) -> None:
        import optuna
        from optuna.artifacts import FileSystemArtifactStore

        self.classes = tuple(classes)
        self.run = self.classes[0].folder
        self.name = self.classes[0].name
        self.folder = writable_folder(folder or self.run / FOLDER, "the dashboard's copy", error=StudyError)
        (self.folder / ARTIFACTS).mkdir(exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        copy = (self.folder / DATABASE).resolve()
        try:
            self.storage = open_storage(copy)
        except DamagedError:  # a copy can be made again
            copy.unlink()
            self.storage = open_storage(copy)
        self.artifacts = FileSystemArtifactStore(str(self.folder / ARTIFACTS))

    def close(self) -> None:
        """Let go of the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def update(self) -> Copied:
        """Add what the run has and the copy has not.

        Raises StudyError where the copy shows other trials than the run has.
        """
        import optuna

        copied = Copied()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            studies = {found.name: found for found in read_studies(self.run)}
            for images in self.classes:
                if images.label is None:
                    (found,) = studies.values()
                    self._search(f"{self.name}: search", images, found, copied)
                    self._confirmed(images, copied)
                    self._experts(images)
                else:
                    if images.label in studies:
                        name = f"{self.name}, {images.label}: search"
                        self._search(name, images, studies[images.label], copied)
                    self._confirmed_sets(images, copied)
        return copied

    def _search(self, name: str, images: RunImages, found: RunTrials, copied: Copied) -> None:
        of_set = images.label is not None

        def shown(trial: Any) -> Shown:
            return of_set_trial(trial) if of_set else of_trial(trial, images.count("search"))

        study = self._study(name, found.directions)
        there = study.get_trials(deepcopy=False)
        if not there:
            only = (ADDS if of_set else "score",)
            names = found.metric_names or (only if len(found.directions) == 1 else None)
            if names is not None:
                study.set_metric_names(list(names))
            note = set_note(images) if of_set else study_note(images, stage="search", prompts=self._prompts())
            self._note(study, None, note)
        trials = [trial for trial in found.trials if looks(trial)]
        for old, new in zip(there, trials, strict=False):
            if old.user_attrs.get("prompt") != new.user_attrs["prompt"] or not _goes_on(old, new):
                raise self._stale(f"trial {old.number} differs")
        if len(there) > len(trials):
            raise self._stale(f"it has {len(there)} trials, the run {len(trials)}")
        changed = [(old, new) for old, new in zip(there, trials, strict=False) if not _same(old, new)]
        again = [old._trial_id for old, _ in changed if old.state.is_finished()]
        if again:  # a search had ended with them, and went on with a larger budget
            reopen(self.storage, again)
            study = self._study(name, found.directions)
        for old, new in changed:
            self._grow(study, images, old.number, shown(new), copied)
        for number, trial in enumerate(trials[len(there) :], start=len(there)):
            self._add(study, images, number, shown(trial), copied)

    def _confirmed(self, images: RunImages, copied: Copied) -> None:
        prompts = self._prompts()
        if prompts is not None:
            self._rows(
                f"{self.name}: confirmed on fresh seeds",
                images,
                of_prompts(prompts, images.count("confirmation")),
                copied,
                objective=("score", "maximize"),
                note=study_note(images, stage="confirmation", prompts=prompts),
            )

    def _confirmed_sets(self, images: RunImages, copied: Copied) -> None:
        from promptopt.run.prompt_sets import read_sets

        path = self.run / runfolder.PROMPTS
        if path.exists():
            sets = read_sets(path)
            self._rows(
                f"{self.name}, {images.label}: confirmed on fresh seeds",
                images,
                of_methods(sets, sets.of(str(images.label))),
                copied,
                objective=(DISTANCE, "minimize"),
                note=confirmed_set_note(images, sets),
            )

    def _rows(
        self,
        name: str,
        images: RunImages,
        rows: Sequence[Shown],
        copied: Copied,
        *,
        objective: tuple[str, str],
        note: str,
    ) -> None:
        """A study of what prompts.json says, made anew where it says something else."""
        digest = hashlib.sha256((self.run / runfolder.PROMPTS).read_bytes()).hexdigest()
        if self._same(name, digest):
            return
        self._drop(name)
        metric, direction = objective
        study = self._study(name, (direction,))
        study.set_metric_names([metric])
        self._note(study, None, note)
        for number, shown in enumerate(rows):
            self._add(study, images, number, shown, copied)
        study.set_user_attr("copied from", digest)  # last: a copy that was cut short is made anew

    def _experts(self, images: RunImages) -> None:
        """The experts' choices as a preferential study, for its graph; choices made there are not counted."""
        from promptopt.review.candidates import known_prompts
        from promptopt.review.records import read_choices, records_path

        path = records_path(self.run)
        choices = read_choices(path) if path.exists() else ()
        if not choices:
            return
        from optuna.samplers import RandomSampler
        from optuna_dashboard import register_preference_feedback_component
        from optuna_dashboard.preferential import create_study

        name = f"{self.name}: experts' choices (to look at; not counted here)"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if self._same(name, digest):
            return
        self._drop(name)
        labels = sorted({label for choice in choices for label in (choice.left, choice.right)})
        study = create_study(
            n_generate=len(labels), storage=self.storage, study_name=name, sampler=RandomSampler(seed=0)
        )
        register_preference_feedback_component(study, "artifact", "picture")
        known = {prompt.label: prompt.candidate for prompt in known_prompts(images)}
        for label in labels:
            shown = Shown(known.get(label, Candidate(label)), (0.0,), {}, {}, {}, choices[0].stage, _MOST)
            self._add(study, images, len(study.trials), shown, Copied())
        trials = dict(zip(labels, study.trials, strict=True))
        for choice in choices:
            if choice.better is not None and choice.worse is not None:
                study.report_preference(trials[choice.better], trials[choice.worse])
        self._note(
            study._study,
            None,
            "Blinded choices of the experts, copied. Choices made on this page are **not counted**: "
            "use `promptopt review prefer`.",
        )
        study.set_user_attr("copied from", digest)

    def _add(self, study: Any, images: RunImages, number: int, shown: Shown, copied: Copied) -> None:
        import optuna

        attributes, picture, copies = self._about(images, number, shown, None, copied)
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState[shown.state],
            values=None if shown.values is None else list(shown.values),
            params=dict(shown.params),
            distributions=dict(shown.distributions),
            intermediate_values=dict(shown.by_images),
            constraints=None if shown.broken is None else {BROKEN: shown.broken},
            user_attrs=attributes,
            system_attrs={_ARTIFACT + picture["artifact_id"]: json.dumps(picture)} if picture else {},
        )
        if shown.started is not None:
            trial.datetime_start, trial.datetime_complete = shown.started, shown.ended
        study.add_trial(trial)
        added = study.get_trials(deepcopy=False)[-1]
        self._note_on_trial(study, added._trial_id, shown, picture, copies)
        copied.trials += 1

    def _grow(self, study: Any, images: RunImages, number: int, shown: Shown, copied: Copied) -> None:
        """Bring a trial that was still running up to date."""
        import optuna

        trial = running(study, study.get_trials(deepcopy=False)[number])
        earlier = trial.user_attrs.get("picture")
        attributes, picture, copies = self._about(images, number, shown, earlier, copied)
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        if picture:
            key = _ARTIFACT + picture["artifact_id"]
            self.storage.set_trial_system_attr(trial._trial_id, key, json.dumps(picture))
        for count, value in shown.by_images.items():
            report(trial, value, count)
        self._note_on_trial(study, trial._trial_id, shown, picture, copies)
        if shown.broken is not None:
            broken(trial, shown.broken)
        if shown.state == "PRUNED":
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif shown.values is not None:
            study.tell(trial, list(shown.values))
        copied.changed += 1

    def _about(
        self, images: RunImages, number: int, shown: Shown, earlier: str | None, copied: Copied
    ) -> tuple[dict[str, Any], dict[str, Any] | None, tuple[int, int]]:
        """User attributes, the picture, and how many images there are of how many."""
        if shown.each is None:
            stored = images.find(shown.candidate, stage=shown.stage, count=shown.images)
        else:
            stored = images.find_each(shown.each, stage=shown.stage)
        present = [image for image in stored if image is not None]
        shots = [image.load() for image in present[:_MOST]]
        picture = self._picture(shots, f"prompt-{number:04d}", earlier)
        copied.images_found += len(present)
        copied.images_wanted += len(stored)
        attributes = {
            "prompt": shown.candidate.label,
            **shown.facts,
            **_numbers(shown.estimates),
            **({"images": f"{len(present)} of {len(stored)}"} if stored else {}),
            **({"picture": picture["artifact_id"]} if picture else {}),
        }
        return attributes, picture, (len(present), len(stored))

    def _note_on_trial(
        self,
        study: Any,
        trial_id: int,
        shown: Shown,
        picture: dict[str, Any] | None,
        copies: tuple[int, int],
    ) -> None:
        target = getattr(study, "_study", study)
        address = f"/artifacts/{target._study_id}/{trial_id}/{picture['artifact_id']}" if picture else None
        self._note(target, trial_id, trial_note(shown, *copies, picture=address))

    def _picture(self, images: Sequence[Any], name: str, earlier: str | None = None) -> dict[str, Any] | None:
        if not images:
            return None
        artifact = earlier or str(uuid.uuid4())
        self.artifacts.write(artifact, io.BytesIO(png_bytes(image_grid(images))))
        return {"artifact_id": artifact, "filename": f"{name}.png", "mimetype": "image/png", "encoding": None}

    def _note(self, study: Any, trial_id: int | None, text: str) -> None:
        from optuna_dashboard import save_note

        # save_note asks a trial for these three alone; a real Trial would start a finished one again
        target = (
            study
            if trial_id is None
            else SimpleNamespace(storage=self.storage, study=study, _trial_id=trial_id)
        )
        save_note(target, text)

    def _study(self, name: str, directions: Sequence[str]) -> Any:
        import optuna

        return optuna.create_study(
            storage=self.storage, study_name=name, directions=list(directions), load_if_exists=True
        )

    def _same(self, name: str, digest: str) -> bool:
        import optuna

        if name not in optuna.get_all_study_names(self.storage):
            return False
        study = optuna.load_study(study_name=name, storage=self.storage)
        return bool(study.user_attrs.get("copied from") == digest)

    def _drop(self, name: str) -> None:
        """Forget a study of the copy, with its pictures."""
        import optuna

        if name not in optuna.get_all_study_names(self.storage):
            return
        for trial in optuna.load_study(study_name=name, storage=self.storage).get_trials(deepcopy=False):
            if picture := trial.user_attrs.get("picture"):
                (self.folder / ARTIFACTS / str(uuid.UUID(picture))).unlink(missing_ok=True)
        optuna.delete_study(study_name=name, storage=self.storage)

    def _prompts(self) -> PromptList | None:
        from promptopt.run.prompts import read_prompts

        path = self.run / runfolder.PROMPTS
        return read_prompts(path) if path.exists() else None

    def _stale(self, what: str) -> StudyError:
        return StudyError(
            f"{self.folder}: is the copy of another run ({what}). Start with --rebuild to make it anew; "
            "notes written in the browser are lost."
        )


def _numbers(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Values as numbers, to sort and plot by; intervals as text beside them."""
    found: dict[str, Any] = {}
    for name, estimate in estimates.items():
        if estimate.value is None:
            continue
        found[name] = float(f"{estimate.value:.4g}")
        if interval := value_and_interval(estimate, ".3g")[1]:
            found[f"{name}, 95 % interval"] = interval
    return found


def _same(old: Any, new: Any) -> bool:
    """Whether the copy's trial shows all that the run has of it."""
    last = old.values == new.values and old.user_attrs.get(WEIGHT, 0.0) == new.user_attrs.get(WEIGHT, 0.0)
    return bool(last and old.state == new.state and old.user_attrs.get(LOOKS) == looks(new))


def _goes_on(old: Any, new: Any) -> bool:
    """Whether the run's trial can be a later state of the copy's."""
    again = "looks" in new.user_attrs  # in a set, what a prompt adds changes with the others
    if old.values is not None and not again and old.user_attrs.get(LOOKS) == looks(new):
        return bool(old.values == new.values)
    known = new.intermediate_values
    return all(known.get(images) == value for images, value in old.intermediate_values.items())
