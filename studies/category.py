"""A category: what is searched for, in words. One YAML file each, in ``categories`` or anywhere else."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)

from promptopt.base.errors import PromptoptError
from promptopt.base.settings import Settings, read_yaml, validate
from studies.wildcards import WildcardError, read_wildcards

CATEGORIES = ("polyps", "landmarks", "instruments")  # of the challenge
SHIPPED = (*CATEGORIES, "normal", "polyps-wide")
GENERATION_PARAMETERS = ("guidance", "steps", "scheduler", "generator", "lora_scale")
RENAMED = {"knobs": "generation_parameters"}
"""Keys of earlier versions."""
FOLDER = Path(__file__).resolve().parent / "categories"

Words = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]
Option = Annotated[str, StringConstraints(strict=True)]


class CategoryError(PromptoptError, ValueError):
    """A category's file is missing or says something that cannot be used."""


class Category(BaseModel):
    """What one study is about.

    - ``template``: the prompt with its ``wildcards``, in the prompt language; a wildcard's options may be
      empty strings, which leave that part out. In a file, ``wildcards`` may also be a folder of lists
      (`studies.wildcards`); without any, the template has its choices in braces alone
    - ``texts``: fixed descriptions of the category that pictures are scored against
    - ``distractors``: named groups of descriptions of what the pictures must not look like
    - ``baseline``: the prompt every other one is compared with
    - ``negative_template``: in place of a fixed ``negative_prompt``, one with choices and the same wildcards
    - ``generation_parameters``: what to try beside the words, as ``guidance: [2, 5]``; the names are
      GENERATION_PARAMETERS
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Words
    title: Words
    template: Words
    wildcards: dict[Words, list[Option]] = {}
    texts: list[Words]
    distractors: dict[Words, list[Words]]
    baseline: Words
    negative_prompt: Option = ""
    negative_template: Words | None = None
    generation_parameters: dict[Words, list[int | float | str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _no_old_keys(cls, content: Any) -> Any:
        for old, new in RENAMED.items():
            if isinstance(content, Mapping) and old in content:
                raise ValueError(f"the key {old!r} is now called {new!r}; rename it")
        return content

    @field_validator("generation_parameters", mode="before")
    @classmethod
    def _known_parameters(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: _checked_values(name, values) for name, values in value.items()}

    @model_validator(mode="after")
    def _one_negative(self) -> "Category":
        if self.negative_prompt and self.negative_template is not None:
            raise ValueError("negative_prompt and negative_template are both given; leave one out")
        return self

    def with_generation_parameters(self, values: Mapping[str, Any]) -> "Category":
        """The same category with these values in place of its own ones. May raise CategoryError."""
        try:
            own = {**self.generation_parameters, **self._known_parameters(dict(values))}
            return self.model_copy(update={"generation_parameters": own})
        except ValueError as error:
            raise CategoryError(str(error)) from error

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys that the category does not use: what it was written as before they existed."""
        content: dict[str, Any] = handler(self)
        unused: dict[str, Any] = {"negative_template": None, "generation_parameters": {}}
        return {key: v for key, v in content.items() if key not in unused or v != unused[key]}

    @field_validator("texts")
    @classmethod
    def _some_texts(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("is empty; give at least one text")
        return value

    @field_validator("wildcards", "distractors")
    @classmethod
    def _some_in_each(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, options in value.items():
            if not options:
                raise ValueError(f"{name!r} is empty; give at least one entry, or take it out")
            if len(set(options)) != len(options):
                twice = next(option for option in options if options.count(option) > 1)
                raise ValueError(f"{name!r} has {twice!r} twice; keep one")
        return value


def _checked_values(name: object, values: object) -> list[float | int | str]:
    """The checked values of a generation parameter, of the type that a generator takes."""
    if name not in GENERATION_PARAMETERS:
        known = ", ".join(GENERATION_PARAMETERS)
        raise ValueError(f"{name!r} is nothing that a category can vary; use {known}")
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name!r} is {values!r}; give a list of values")
    wanted = {
        "guidance": "a number from 0 to 100",
        "steps": "a whole number from 1 to 1000",
        "lora_scale": "a number from 0 to 10",
    }
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {
            "guidance": number and 0 <= value <= 100,
            "steps": number and isinstance(value, int) and 1 <= value <= 1000,
            "lora_scale": number and 0 <= value <= 10,
        }.get(str(name), isinstance(value, str) and bool(value.strip()))
        if not fits:
            raise ValueError(f"{name!r} has {value!r}; give {wanted.get(name, 'a name')}")
    typed = [float(value) for value in values] if name in ("guidance", "lora_scale") else list(values)
    if len(set(typed)) < len(typed):
        raise ValueError(f"{name!r} has a value twice: {values}; keep one")
    return typed


def load_category(name_or_path: str | Path) -> Category:
    """Read one of SHIPPED by its name, or any category from the path of a YAML file.

    Raises CategoryError naming the file, the key, the bad value and the remedy.
    """
    given = str(name_or_path)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix not in (".yaml", ".yml") and path.name == given:
        if given not in SHIPPED:
            raise CategoryError(
                f"category {given!r} does not exist; use {', '.join(SHIPPED)}, or the path of a .yaml file"
            )
        path = FOLDER / f"{given}.yaml"
    remedy = f"Give {', '.join(SHIPPED)}, or a .yaml file with the keys {', '.join(Category.model_fields)}."
    return check_category(read_yaml(path, error=CategoryError, remedy=remedy), base=path.parent)


def check_category(settings: Settings, *, base: Path = Path()) -> Category:
    """A category that was read or written in a study.

    Args:
        base: where a relative folder of wildcards begins.

    Raises:
        CategoryError: every fault with its key, value and remedy.
    """
    content = dict(settings.content)
    if isinstance(content.get("wildcards"), str):
        try:
            content["wildcards"] = read_wildcards(base / Path(content["wildcards"]).expanduser())
        except WildcardError as error:
            raise CategoryError(f"{settings.source}: wildcards: {error}") from error
    category: Category = validate(Category, replace(settings, content=content), error=CategoryError)
    return category
