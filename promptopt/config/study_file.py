"""The study file: one YAML that says what is searched, on which data, with which networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag
from pydantic import field_validator as _field_validator
from pydantic import model_validator as _model_validator

from promptopt.base.errors import PromptoptError
from promptopt.base.naming import without_home
from promptopt.base.settings import Settings, override, read_yaml, validate
from promptopt.config.paths import absolute_folder_or_name, absolute_path, absolute_uri
from promptopt.config.sets import ClassifierSettings, ClassSettings, ClosenessSettings, SetScore, SetSettings
from studies.category import SHIPPED, CategoryError, check_category

RENAMED = {
    "knobs": "generation_parameters",
    "search.round": "search.proposals_per_step",
    "confirm.level": "confirm.alpha",
}
"""Keys of earlier versions."""


class StudyError(PromptoptError, ValueError):
    """A study cannot start or go on; the message names the file or key, the bad value and the remedy."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PhantomSettings(_Model):
    """The procedural data set that ships with the project."""

    images: int = Field(
        default=3000,
        ge=20,
        description="images over all categories and pools, 60 or more; with `hospital`: of each label in the "
        "pools reference and validation together",
    )
    seed: int = Field(default=0, ge=0, description="same seed, same images")
    size: int = Field(default=64, ge=16, le=1024, description="width and height in pixels")
    hospital: str | None = Field(
        default=None, description="home, coast, summit, delta or valley: where the images come from"
    )
    test: int = Field(
        default=300, ge=20, description="with `hospital`: images of each label in the pool test"
    )

    @_model_validator(mode="after")
    def _known_hospital(self) -> PhantomSettings:
        from studies.phantom.hospitals import HOSPITALS

        if self.hospital is None and self.images < 60:
            raise ValueError("images must be 60 or more where no hospital is named")
        if self.hospital is not None and self.hospital not in HOSPITALS:
            raise ValueError(f"hospital {self.hospital!r} does not exist; choose {', '.join(HOSPITALS)}")
        return self


class PhantomSource(_Model):
    """`data: {phantom: {...}}`: the phantom, written once into the store folder."""

    phantom: PhantomSettings


GeneratorName = Annotated[str, Field(pattern=r"^[\w][\w. -]*$")]


class GeneratorSettings(_Model):
    """Which generator, and how it samples; None leaves the generator's own default."""

    uri: str = Field(
        default="embedded",
        min_length=1,
        description="embedded, a diffusers folder or hf:owner/name[@revision]; then +lora:PATH@SCALE",
    )
    named: dict[GeneratorName, Annotated[str, Field(min_length=1)]] = Field(
        default={},
        description="further generators by name, to vary with "
        "`generation_parameters: {generator: [main, NAME]}`",
    )
    steps: int | None = Field(default=None, ge=1, le=1000, description="denoising steps")
    guidance: float | None = Field(default=None, ge=0, le=100, description="its scale")
    scheduler: str | None = Field(default=None, description="the sampler of the diffusion, e.g. ddim")
    negative_prompt: str | None = Field(default=None, description="default: the category's own")
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="rows of one pass; another size rounds differently, so its images are made anew",
    )


_CLASS_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
SAMPLER_NAMES = ("auto", "slots", "gp", "tpe", "nsga2", "random", "enumerate")


class SearchSettings(_Model):
    """How prompts are proposed and how many images each is judged on."""

    trials: int = Field(default=40, ge=1, le=100_000, description="distinct prompts to score")
    images: int = Field(
        default=8, ge=4, le=100_000, description="images of every prompt; with racing some get more"
    )
    racing: bool = Field(
        default=True, description="up to 64 images for promising prompts, a quarter more in all"
    )
    sampler: str = Field(
        default="auto",
        description="auto: slots, a model of their effects; few prompts are all tried. Others: gp, tpe, "
        "nsga2, random, enumerate, or the class path of an Optuna sampler (optuna.samplers.TPESampler)",
        json_schema_extra={
            "anyOf": [{"enum": list(SAMPLER_NAMES)}, {"type": "string", "pattern": _CLASS_PATH}]
        },
    )
    proposals_per_step: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = Field(
        default=2,
        description="prompts proposed at a time, then measured together; auto: one for each worker of --on, "
        "2 to 16",
    )
    max_images: int | None = Field(default=None, ge=4, description="stop before more are made")
    minutes: float | None = Field(default=None, gt=0, description="stop when the search has taken so long")
    stop: float | None = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="stop when another prompt is better by `margin` with no more than this probability; "
        "null: never",
    )
    margin: float = Field(default=0.1, ge=0, description="in SDs of the baseline's images")
    warm_start: tuple[str, ...] = Field(
        default=(), description="run folders of earlier studies whose best prompts, or sets, are tried first"
    )
    seed: int | None = Field(default=None, ge=0, description="of the sampler; default: from the study's seed")

    @property
    def proposals(self) -> int:
        """Prompts proposed at a time; 2 where that is left to the run's workers, and these are not known."""
        return 2 if self.proposals_per_step == "auto" else self.proposals_per_step

    @_field_validator("sampler")
    @classmethod
    def _named_or_a_path(cls, name: str) -> str:
        if name not in SAMPLER_NAMES and not re.match(_CLASS_PATH, name):
            names = ", ".join(map(repr, SAMPLER_NAMES))
            raise ValueError(
                f"{name!r} does not exist; choose {names}, or give an Optuna sampler's class path"
            )
        return name


class ConstraintSettings(_Model):
    """What a prompt's images must keep to; null leaves a constraint out."""

    diversity: float | None = Field(
        default=0.5,
        ge=0,
        le=10,
        description="least diversity, as a share of that of the real reference images",
    )
    duplicates: float | None = Field(
        default=0.5, ge=0, le=1, description="greatest share of images that repeat another one of the prompt"
    )
    copies: float | None = Field(
        default=None, ge=0, le=1, description="greatest share of images that copy a real reference image"
    )


class ScoreWeights(_Model):
    """Weights of the three per-image terms; each term is in SDs of the baseline's images."""

    alignment: float = Field(default=1.0, ge=0, description="log-odds of the category's texts in the encoder")
    utility: float = Field(default=1.0, ge=0, description="log-odds by a probe trained on real images")
    distance: float = Field(default=1.0, ge=0, description="an image's share of the MMD to real images")

    @_model_validator(mode="after")
    def _some_weight(self) -> ScoreWeights:
        if self.alignment + self.utility + self.distance == 0:
            raise ValueError("all weights are 0, so every prompt would score the same; make one positive")
        return self


class PreferenceSettings(_Model):
    """Experts' choices between prompts' images, from `promptopt review`, as a further term of the score."""

    source: str = Field(min_length=1, description="run folder with a review, or its preferences.json")
    weight: float = Field(
        default=1.0,
        gt=0,
        description="of the log-odds of being preferred to the baseline",
    )


class ConfirmSettings(_Model):
    """How many of the best prompts are tested again, on how many fresh images, and by whom besides."""

    top: int = Field(default=5, ge=1, le=1000, description="prompts drawn again, the baseline besides")
    images: int | None = Field(
        default=None, ge=4, le=100_000, description="fresh images of each; 32, or 100 of a set and its rivals"
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="risk of any false claim over all confirmed prompts (Holm)"
    )
    classifier: ClassifierSettings | None = Field(
        default=ClassifierSettings(), description="what confirms sets of two classes or more; null: none"
    )
    second_encoder: str | None = Field(
        default=None, min_length=1, description="another encoder that the search never sees; null: none"
    )
    captions: bool = Field(
        default=False, description="compare a set with the captions of the real images as prompts, too"
    )


class PortfolioSettings(_Model):
    """The mixture of prompts that the weights in prompts.json describe."""

    size: int = Field(default=4, ge=1, le=20, description="most prompts; 1 gives the first one all weight")
    min_distance: float = Field(
        default=0.05, ge=0, le=2, description="least distance between two of them, by words or sentence_model"
    )
    alignment_floor: float | None = Field(
        default=-1.0,
        description="least mean alignment, in SDs of the baseline's images from their mean; null: none",
    )
    sentence_model: str | None = Field(
        default=None, min_length=1, description="sentence-transformers model, a folder or a package's name"
    )


def _score_kind(value: object) -> str:
    if isinstance(value, ScoreWeights | SetScore):
        return "single" if isinstance(value, ScoreWeights) else "set"
    return "single" if isinstance(value, dict) and {*value} & {*ScoreWeights.model_fields} else "set"


def _data_kind(value: object) -> str:
    return "path" if isinstance(value, str | Path) else "phantom"


class StudyConfig(_Model):
    """One study. Its paths are absolute: `load_study` makes them so, from the folder of the study file.

    Example:
        >>> from promptopt.config.study_file import study_from_mapping
        >>> config = study_from_mapping({"name": "first", "category": "polyps", "data": {"phantom": {}}})
        >>> config.encoder, config.override({"search.trials": 80}).search.trials
        ('embedded', 80)
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="also the run folder's name")
    aim: Literal["set", "single"] = Field(
        default="set", description="a set of prompts for each class, or a ranking of single prompts"
    )
    category: str | dict[str, Any] | None = Field(
        default=None, description="a shipped category, a YAML file, or its content; for a study of one class"
    )
    classes: dict[Annotated[str, Field(min_length=1)], ClassSettings] = Field(
        default={}, description="label of the real images -> {category: ...}, in place of `category`"
    )
    prompts: str | None = Field(
        default=None,
        min_length=1,
        description="a list of prompts in place of the category's template: text with one prompt a line, or "
        "CSV or JSON lines with a column or key `prompt`",
    )
    baseline: str | None = Field(
        default=None, min_length=1, description="the plain prompt, in place of the category's"
    )
    data: (
        Annotated[
            Annotated[str, Tag("path")] | Annotated[PhantomSource, Tag("phantom")], Discriminator(_data_kind)
        ]
        | None
    ) = Field(
        default=None,
        description="folder of a prepared data set, or {phantom: {images, seed, hospital}}; may be left out "
        "with aim: single, which is then scored by alignment and metrics alone",
    )
    positives: str | None = Field(default=None, description="category or label that counts as positive")
    generator: GeneratorSettings = GeneratorSettings()
    generation_parameters: dict[str, list[int | float | str]] = Field(
        default={},
        description="what to try beside the words, in place of the category's own: guidance, steps, "
        "scheduler, generator (main or a name in generator.named), lora_scale (times the adapters' own)",
    )
    encoder: str = Field(
        default="embedded",
        min_length=1,
        description="of images and texts: embedded, a folder, open_clip:MODEL/TAG or hf:owner/name; of "
        "images alone: timm:NAME[@FILE], torchvision:NAME@FILE, transformers:ADDRESS",
    )
    allow_weak_encoder: bool = Field(
        default=False,
        description="go on where the encoder tells the real images apart worse than 8x8 thumbnails do",
    )
    judge: str | None = Field(
        default=None, min_length=1, description="embedded or a folder; reads the confirmed images; null: none"
    )
    mode: Literal["score", "pareto"] = Field(
        default="score",
        description="score is the weighted sum of the terms, pareto the front of all of them",
    )
    search: SearchSettings = SearchSettings()
    constraints: ConstraintSettings = ConstraintSettings()
    score: (
        Annotated[
            Annotated[ScoreWeights, Tag("single")] | Annotated[SetScore, Tag("set")],
            Discriminator(_score_kind),
        ]
        | None
    ) = Field(default=None, description="weights of the terms; which there are depends on the aim")
    set: SetSettings = SetSettings()
    closeness: ClosenessSettings = ClosenessSettings()
    metrics: list[str] = Field(
        default=[], description="further terms of the score, by the names that installed packages register"
    )
    preference: PreferenceSettings | None = None
    confirm: ConfirmSettings = ConfirmSettings()
    portfolio: PortfolioSettings = PortfolioSettings()
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="of everything that is drawn")
    allow_embedded: bool = Field(
        default=False,
        description="let the embedded networks, which know only the phantom, work on other images",
    )

    _base: Path = PrivateAttr(default_factory=Path.cwd)
    _source: str = PrivateAttr(default="study")
    _written: dict[str, str] = PrivateAttr(default_factory=dict)  # absolute path or URI -> the user's words

    @_model_validator(mode="before")
    @classmethod
    def _terms_without_data(cls, content: Any) -> Any:
        """Without real images the terms that compare with them are 0."""
        if not isinstance(content, Mapping) or content.get("data") is not None:
            return content
        score = content.get("score") or {}
        if content.get("aim") != "single" or not isinstance(score, Mapping):
            return content
        return {**content, "score": {"alignment": 1.0, "utility": 0.0, "distance": 0.0, **score}}

    @_model_validator(mode="after")
    def _fits_without_data(self) -> StudyConfig:
        if self.data is not None:
            return self
        if self.aim == "set":
            raise ValueError(
                "data: missing; a set is fitted to real images: give a data set, or aim: single, which does "
                "without"
            )
        if self.single_score.utility + self.single_score.distance > 0:
            raise ValueError(
                "score: utility and distance compare with real images, and there is no data; set them to 0"
            )
        if self.constraints.copies is not None:
            raise ValueError("constraints.copies: needs real images, and there is no data; set it to null")
        return self

    @_model_validator(mode="after")
    def _fits_the_aim(self) -> StudyConfig:
        if (self.category is None) == (not self.classes):
            raise ValueError("category and classes: give one of them: a category, or classes by label")
        if self.classes and (self.prompts or self.baseline):
            raise ValueError("prompts and baseline: give them in each class of `classes`")
        if self.aim == "single" and self.classes:
            raise ValueError("classes: a study with aim: single has one class; give its `category`")
        if self.aim == "set" and isinstance(self.score, ScoreWeights):
            raise ValueError(
                "score: alignment, utility and distance are of aim: single; a set is scored by "
                f"{', '.join(SetScore.model_fields)}"
            )
        if self.aim == "single" and isinstance(self.score, SetScore):
            raise ValueError(
                f"score: {', '.join(SetScore.model_fields)} are of aim: set; single prompts are scored by "
                f"{', '.join(ScoreWeights.model_fields)}"
            )
        if self.aim == "set" and self.mode == "pareto":
            raise ValueError("mode: pareto ranks single prompts; add aim: single")
        return self

    @property
    def confirm_images(self) -> int:
        """Fresh images of each prompt, or of each method that a set is compared with."""
        if self.confirm.images is not None:
            return self.confirm.images
        return 100 if self.aim == "set" else 32

    @property
    def single_score(self) -> ScoreWeights:
        """Weights of the terms of a single prompt's score."""
        return self.score if isinstance(self.score, ScoreWeights) else ScoreWeights()

    @property
    def set_score(self) -> SetScore:
        """Weights of the terms of a set's objective."""
        return self.score if isinstance(self.score, SetScore) else SetScore()

    @property
    def source(self) -> str:
        """The study file as the user wrote it, for messages."""
        return self._source

    def as_written(self, value: Any) -> Any:
        """A value of the study, or a section as plain JSON, with paths as the user wrote them.

        The home folder is written ``~``. For what other machines read, and for messages.
        """
        if isinstance(value, dict):
            return {key: self.as_written(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.as_written(inner) for inner in value]
        return without_home(self._written.get(value, value)) if isinstance(value, str) else value

    def override(self, changes: Mapping[str, Any]) -> StudyConfig:
        """A checked copy with dotted keys replaced, e.g. `{"search.trials": 80, "name": "again"}`."""
        settings = Settings(self.model_dump(mode="json"), self._source)
        changed = override(settings, changes, error=StudyError)
        return _validate(changed, base=self._base, written=self._written)


def load_study(path: str | Path) -> StudyConfig:
    """Read and check a study file; relative paths in it start at its own folder.

    Raises:
        StudyError: not readable, not YAML, an unknown key, a wrong value; with the line where known.
    """
    remedy = "Give a study file, a mapping of keys such as name and data; `promptopt init` writes one."
    settings = read_yaml(path, error=StudyError, remedy=remedy)
    return _validate(settings, base=Path(path).resolve().parent)


def study_from_mapping(content: Mapping[str, Any], *, base: str | Path | None = None) -> StudyConfig:
    """Check a study given as a mapping (scripts, tests); paths start at `base`, or the current folder."""
    return _validate(Settings(dict(content), "study"), base=Path(base or Path.cwd()).resolve())


def json_schema() -> dict[str, Any]:
    """JSON schema of the study file, for editors."""
    schema = StudyConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "promptopt study"}


def _validate(settings: Settings, *, base: Path, written: Mapping[str, str] | None = None) -> StudyConfig:
    config: StudyConfig = validate(StudyConfig, settings, error=StudyError, renamed=RENAMED)
    _check_inline(config, settings, base)
    changed: dict[str, str] = {}
    config = _absolute(config, base, changed)
    config._base = base
    config._source = settings.source
    config._written = {**(written or {}), **changed}
    return config


def _check_inline(config: StudyConfig, settings: Settings, base: Path) -> None:
    """Categories that are written in the study itself, with the lines of their faults."""
    places: dict[tuple[str, ...], Any] = {("category",): config.category}
    places |= {("classes", label, "category"): one.category for label, one in config.classes.items()}
    for place, content in places.items():
        if not isinstance(content, dict):
            continue
        depth = len(place)
        lines = {key[depth:]: line for key, line in settings.lines.items() if key[:depth] == place}
        source = f"{settings.source}: {'.'.join(place)}"
        try:
            check_category(Settings(content, source, lines), base=base)
        except CategoryError as error:
            raise StudyError(str(error)) from error


def _absolute(config: StudyConfig, base: Path, changed: dict[str, str]) -> StudyConfig:
    """The study with all paths absolute; notes in `changed` what the user wrote for each."""

    def of(make: Callable[[str, Path], str], text: str) -> str:
        absolute = make(text, base)
        if absolute != text:
            changed[absolute] = text
        return absolute

    def maybe(make: Callable[[str, Path], str], text: str | None) -> str | None:
        return None if text is None else of(make, text)

    def of_category(chosen: Any) -> Any:
        if isinstance(chosen, dict) and isinstance(chosen.get("wildcards"), str):  # a folder of lists
            return {**chosen, "wildcards": of(absolute_path, chosen["wildcards"])}
        return of(absolute_path, chosen) if isinstance(chosen, str) and chosen not in SHIPPED else chosen

    own, category, data, opinion = config.generator, config.category, config.data, config.preference
    sections: dict[str, Any] = {
        "generator": {
            "uri": of(absolute_uri, own.uri),
            "named": {name: of(absolute_uri, uri) for name, uri in own.named.items()},
        },
        "search": {"warm_start": tuple(of(absolute_path, run) for run in config.search.warm_start)},
        "set": {"sentence_model": maybe(absolute_folder_or_name, config.set.sentence_model)},
        "confirm": {"second_encoder": maybe(absolute_uri, config.confirm.second_encoder)},
        "portfolio": {"sentence_model": maybe(absolute_folder_or_name, config.portfolio.sentence_model)},
    }
    if opinion is not None:
        sections["preference"] = {"source": of(absolute_path, opinion.source)}
    update = {name: getattr(config, name).model_copy(update=new) for name, new in sections.items()}
    update["encoder"] = of(absolute_uri, config.encoder)
    update["judge"] = maybe(absolute_uri, config.judge)
    update["prompts"] = maybe(absolute_path, config.prompts)
    update["classes"] = {
        label: one.model_copy(
            update={
                "category": of_category(one.category),
                "prompts": maybe(absolute_path, one.prompts),
            }
        )
        for label, one in config.classes.items()
    }
    update["category"] = of_category(category)
    if isinstance(data, str):
        update["data"] = of(absolute_path, data)
    return config.model_copy(update=update)
