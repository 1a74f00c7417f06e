"""Recipes: what a training run does, as checked values that can be read from YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promptopt.base.errors import PromptoptError
from promptopt.base.settings import override, parse_changes, read_yaml, validate

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(PromptoptError, ValueError):
    """A recipe cannot be found, is not YAML, or holds a key or value that means nothing."""


class _Spec(BaseModel):
    """What both trainers share. ``steps`` counts optimizer steps, each over ``batch_size`` pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
_SPEC = Annotated[Spec, Field(discriminator="kind")]


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
    remedy = "A recipe is a mapping with 'kind' and 'steps'."
    settings = read_yaml(file, error=RecipeError, remedy=remedy)
    settings = override(settings, parse_changes(changes, error=RecipeError), error=RecipeError)
    spec: Spec = validate(_SPEC, settings, error=RecipeError)
    return spec
