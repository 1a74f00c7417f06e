"""Recipes: what a training run does, as checked values that can be read from YAML."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from promptopt.base.errors import PromptoptError

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(PromptoptError, ValueError):
    """A recipe cannot be found, is not YAML, or holds a key or value that means nothing."""


class _Spec(BaseModel):
    """What both trainers share. ``steps`` counts optimizer steps, each over ``batch_size`` pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0)
    steps: int = Field(ge=1)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(50, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    augmentation: float = Field(1.0, ge=0, le=2)
    """Strength of color jitter, blur and noise; 0 for none. Never flips: captions say left and right."""
    save_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    validation_images: int = Field(2000, ge=1)
    """At most so many pictures of the validation pool are used for the card's figures."""
    license: str = "apache-2.0"
    """License stated in the card's header."""


class ClipModel(BaseModel):
    """An open_clip architecture: ``vision_cfg`` and ``text_cfg`` as in open_clip's own model configs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embed_dim: int = Field(ge=1)
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False


class ClipSpec(_Spec):
    """Contrastive training of an open_clip model, from ``model`` (new weights) or from ``init`` given at the
    call."""

    kind: Literal["clip"] = "clip"
    model: ClipModel | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Pixel normalization of a new model; a model given as ``init`` brings its own."""
    zero_shot: dict[str, list[str]] | None = None
    """Class -> texts for the zero-shot figures; null takes the texts of the categories in ``studies``."""
    train_text: bool = True
    """False keeps the text tower as it is."""


class JudgeSpec(_Spec):
    """Training of a judge on the ``attributes`` of the records."""

    kind: Literal["judge"] = "judge"
    image_size: int = Field(64, ge=16, le=512)
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    hidden: int = Field(128, ge=1)
    names: dict[Literal["color", "size", "paris"], list[str]] = {}
    """Names of the answers that depend on the data; left out, they are read from the reference pool."""

    @model_validator(mode="after")
    def _check_names(self) -> "JudgeSpec":
        for head, names in self.names.items():
            if "none" not in names:
                raise ValueError(f"names.{head} must contain 'none', the answer where {head} does not apply")
        return self


Spec = ClipSpec | JudgeSpec
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(Annotated[Spec, Field(discriminator="kind")])


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 3e-4 as a string; people who write recipes mean a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_recipe(name_or_path: str | Path, *, changes: Sequence[str] = ()) -> Spec:
    """Read a recipe that ships (by name, such as ``tiny-clip``) or a YAML file.

    ``changes`` are ``key=value`` strings (``steps=10``, ``model.embed_dim=64``; values are YAML). Raises
    RecipeError naming the file, the key and the bad value.
    """
    file = Path(name_or_path)
    if not file.is_file() and file.name == str(name_or_path):
        file = RECIPES / f"{name_or_path}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise RecipeError(f"recipe {str(name_or_path)!r}: no such file; the recipes that ship are {known}")
    try:
        value = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: not YAML: {error}") from error
    if not isinstance(value, dict):
        raise RecipeError(
            f"{file}: a recipe is a mapping with 'kind' and 'steps'; got {type(value).__name__}"
        )
    for change in changes:
        _apply(value, change)
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in ("clip", "judge"))
        raise RecipeError(f"{file}: key {key or 'kind'!r}: {first['msg']}; got {first['input']!r}") from error


def _apply(value: dict[str, Any], change: str) -> None:
    key, sign, text = change.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {change!r}: write key=value, such as steps=100 or model.embed_dim=64")
    try:
        new = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change!r}: the value is not YAML: {error}") from error
    *parents, last = key.split(".")
    for parent in parents:
        value = value.setdefault(parent, {})
        if not isinstance(value, dict):
            raise RecipeError(f"--set {change!r}: {parent!r} is not a mapping, so it has no key below it")
    value[last] = new
