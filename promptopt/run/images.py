"""The images of a run, found again in the store from what its folder records; no network is opened."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from generators.errors import GeneratorError
from generators.family import MAIN, split_settings
from generators.request import ImageRequest
from generators.store import StoredImage
from generators.stores.address import store_folder
from generators.stores.opening import open_store
from promptopt.base.reading import json_object
from promptopt.base.seeds import seed_panel
from promptopt.config.study_file import StudyError, load_study
from promptopt.run import folder as runfolder
from promptopt.space import Candidate
from studies.phantom import is_phantom

Stage = Literal["search", "confirmation"]


@dataclass(frozen=True)
class RunImages:
    """Where the images of a run's prompts lie.

    Attributes:
        settings: the content of the run's settings.json; of a study of sets, what it says of one class.
        label: of that class; None in a study of single prompts.
    """

    folder: Path
    store: Path
    settings: Mapping[str, Any]
    label: str | None = None

    @classmethod
    def open(cls, run: str | Path, *, store: str | Path = "store") -> RunImages:
        """Read what a run of single prompts was made with.

        Args:
            run: a run folder, finished or not.
            store: the folder of images and features that the study was run with.

        Raises:
            StudyError: not a run folder, a study of sets, or a store without images.
        """
        (first, *_) = cls.open_classes(run, store=store)
        if first.label is not None:
            raise StudyError(
                f"{run}: a study of sets, and this is for studies with aim: single. Its images and "
                f"figures are in {first.folder / runfolder.REPORT}; its trials, an Optuna study for each "
                f"class, are shown by `{shlex.join(['promptopt', 'dashboard', str(run)])}`."
            )
        return first

    @classmethod
    def open_classes(cls, run: str | Path, *, store: str | Path = "store") -> list[RunImages]:
        """The same for each class of a study of sets; for a study of single prompts, its one.

        Raises:
            StudyError: not a run folder, or a store without images.
        """
        folder, store = Path(run), store_folder(store)
        path = folder / runfolder.SETTINGS
        settings = json_object(path, error=StudyError, remedy="Give a run folder, such as runs/polyps.")
        if not (store / "images").is_dir():
            raise StudyError(
                f"{store}: holds no folder images. Name the store that the study was run with (--store)."
            )
        found = [cls(folder, store, settings)]
        if settings.get("aim") == "set" and isinstance(settings.get("classes"), dict):
            version = {"format": settings.get("format")}
            found = [
                cls(folder, store, {**version, **own}, label) for label, own in settings["classes"].items()
            ]
        for one in found:  # a damaged settings.json should show here
            one.requests(Candidate("a prompt"), stage="search", count=1)
        return found

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.resolve().name

    @property
    def drawn(self) -> bool:
        """Whether the study's real images are drawings: the phantom's."""
        return is_drawn(self.folder)

    @property
    def baseline(self) -> Candidate:
        """The plain prompt that the others are compared with."""
        return Candidate(str(self.settings["category"]["baseline"]))

    def count(self, stage: Stage) -> int:
        """Images a prompt that the settings ask for."""
        return int(self.settings["search" if stage == "search" else "confirm"]["images"])

    def requests(self, candidate: Candidate, *, stage: Stage, count: int | None = None) -> list[ImageRequest]:
        """What was asked of the generator for a candidate, in order of the seeds.

        Raises StudyError for settings of another version.
        """
        return self._requests(
            lambda: [candidate] * (self.count(stage) if count is None else count), stage=stage
        )

    def _requests(self, candidates: Callable[[], Sequence[Candidate]], *, stage: Stage) -> list[ImageRequest]:
        """One candidate a seed."""
        try:
            if self.settings["format"] != runfolder.FORMAT:
                raise ValueError(f"format {self.settings['format']!r}")
            asked = candidates()
            number = len(asked)
            panel = seed_panel(int(self.settings["seed"]), search_images=number, confirm_images=number)
            seeds = panel.search if stage == "search" else panel.confirmation
            return [self._request(one, seed) for one, seed in zip(asked, seeds, strict=True)]
        except (KeyError, TypeError, ValueError, GeneratorError) as error:
            raise StudyError(
                f"{self.folder / runfolder.SETTINGS}: not the settings of a study of this version "
                f"({type(error).__name__}: {error}). Run the study again under another name."
            ) from error

    def _request(self, candidate: Candidate, seed: int) -> ImageRequest:
        drawn: dict[str, Any] = dict(self.settings["generator"])
        member, own = split_settings(candidate.generation_parameters)
        main = drawn.pop("fingerprint")
        drawn["generator"] = self.settings.get("generators", {MAIN: main})[member]
        drawn.update(own)
        if candidate.negative_prompt is not None:
            drawn["negative_prompt"] = candidate.negative_prompt
        return ImageRequest(**drawn, prompt=candidate.prompt, seed=seed)

    def find(
        self, candidate: Candidate, *, stage: Stage, count: int | None = None
    ) -> list[StoredImage | None]:
        """The stored images in order of the seeds; None for one that is not in the store, or damaged."""
        store = open_store(self.store / "images")
        return [store.get(request) for request in self.requests(candidate, stage=stage, count=count)]

    def find_each(self, candidates: Sequence[Candidate], *, stage: Stage) -> list[StoredImage | None]:
        """The stored image of each candidate, the first with the first seed and so on; None as in `find`."""
        store = open_store(self.store / "images")
        return [store.get(request) for request in self._requests(lambda: candidates, stage=stage)]

    def present(self, candidate: Candidate, *, stage: Stage, count: int | None = None) -> list[StoredImage]:
        """Those of `find` that there are."""
        return [image for image in self.find(candidate, stage=stage, count=count) if image is not None]


def is_drawn(folder: Path) -> bool:
    """Whether the real images of a run are drawings, the phantom's; False where its study.yaml is damaged."""
    try:
        data = load_study(folder / runfolder.STUDY).data
    except StudyError:
        return False
    return not isinstance(data, str) or is_phantom(data)


def missing_sentence(found: int, wanted: int, images: RunImages) -> str:
    """What to tell a person about images that are not in the store."""
    return (
        f"{images.name}: {wanted - found} of {wanted} images are not in {images.store}. Name the store that "
        "the study was run with (--store); running the study again makes them anew."
    )


def image_count(per_image: Mapping[str, Sequence[float]], default: int) -> int:
    """How many images a trial was scored on; races give each prompt its own number."""
    return max((len(values) for values in per_image.values()), default=default)
