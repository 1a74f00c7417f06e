"""Settings: what is read, and what people are told about the rest."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from promptopt.base.errors import PromptoptError
from promptopt.base.settings import (
    Settings,
    SettingsError,
    override,
    parse_changes,
    read_json,
    read_yaml,
    validate,
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(1, ge=1)
    rate: float = 0.1
    words: list[str] = []


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["big"] = "big"
    name: str
    training: Section = Section()
    several: dict[str, Section] = {}
    place: Annotated[int | str, Field()] = "here"

    @model_validator(mode="after")
    def _no_x(self) -> "Recipe":
        if self.name == "x":
            raise ValueError("Name x is taken; choose another")
        return self


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["small"]
    only: int


class Versioned(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: Literal[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_with_its_lines_and_numbers_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffname: a\ntraining:\n  rate: 3e-4\n  words:\n  - one\n  - two\n")
    settings = read_yaml(path)
    assert settings.content == {"name": "a", "training": {"rate": 3e-4, "words": ["one", "two"]}}
    assert settings.source == str(path)
    assert settings.lines["training", "rate"] == 3
    assert settings.lines["training", "words", 1] == 6
    assert validate(Recipe, settings).training == Section(rate=3e-4, words=["one", "two"])


_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", ["holds a list, not a mapping"]),
        ("", ["holds nothing"]),
        ("a: [1\n", ["line 2", "not valid YAML"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["line 1", "could not determine a constructor"]),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", ["line 4: b.c: written twice"]),
        ("a: 1\nb: {1: x, 0x1: y}\n", ["line 2: b.1: written twice"]),
        ("? [a, b]\n: 1\n", ["line 1: a key is a list"]),
        ("a: 2024-13-45\n", ["not valid YAML"]),
        (_BOMB, ["more than 100,000 values"]),
        ("a: &a [*a]\n", ["nested more than 50 deep"]),
        ("a: " + "[" * 60 + "]" * 60, ["nested more than 50 deep"]),
        ("a: " + "[" * 20_000 + "]" * 20_000, ["nested more than 50 deep"]),
        ("a: 1\nb: {c: .nan}\n", ["line 2: holds .nan", "finite"]),
        ("a: [1, -.INF]\n", ["line 1: holds -.INF"]),
        ("a: 1e999\n", ["line 1: holds 1e999"]),
        ('a: 1\nb: "\\ud800x"\n', ["line 2: holds half a surrogate pair"]),
        ('"\\udfff": 1\n', ["line 1: holds half a surrogate pair"]),
        ("[]\n", ["holds a list, not a mapping"]),
        ("5\n", ["holds a int, not a mapping"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_yaml(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
    assert caught.value.file == str(path)


def test_a_file_that_cannot_be_read_is_refused_with_the_callers_error(tmp_path: Path) -> None:
    class OwnError(PromptoptError):
        pass

    with pytest.raises(OwnError, match=r"absent\.yaml: there is no such file\. Look again"):
        read_yaml(tmp_path / "absent.yaml", error=OwnError, remedy="Look again.")
    with pytest.raises(OwnError, match="cannot be read"):
        read_yaml(tmp_path, error=OwnError)
    (tmp_path / "b.yaml").write_bytes(b"a: \xff")
    with pytest.raises(OwnError, match=r"not UTF-8 at byte 3\. Save"):
        read_yaml(tmp_path / "b.yaml", error=OwnError)


def test_merge_keys_and_aliases_work(tmp_path: Path) -> None:
    text = "base: &b {steps: 2}\ntraining:\n  <<: *b\n  rate: 1\n"
    assert read_yaml(write(tmp_path, text)).content["training"] == {"steps": 2, "rate": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "nam: a\nname: b\n",
            "r.yaml, line 1: nam: unknown key; did you mean 'name'? Known here: kind, name, ",
        ),
        ("name: a\ntraining:\n  stepz: 1\n", "line 3: training.stepz: unknown key; did you mean 'steps'?"),
        (
            "name: a\ntraining: {steps: 0}\n",
            "line 2: training.steps: 0 is not allowed: input should be greater",
        ),
        ("name: a\nseveral:\n  b:\n    steps: many\n", "line 4: several.b.steps: 'many' is not allowed"),
        ("name: a\nseveral:\n  b:\n    stepz: 1\n", "Known here: steps, rate, words."),
        ("training: {}\n", "r.yaml: name: missing. Add it."),
        ("name: no\n", "line 1: name: False is not allowed. Write text; put"),
        ("name: x\n", "r.yaml: name x is taken; choose another"),
        ("name: a\nplace: [1]\n", "line 2: place: input should be a valid integer"),
    ],
)
def test_a_wrong_value_names_file_line_key_value_and_remedy(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Recipe, read_yaml(write(tmp_path, text)))
    assert words in str(caught.value)


def test_one_fault_has_its_parts_and_many_are_cut_off() -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Recipe, Settings({"name": "a", "training": {"steps": -1}}, "r.yaml", {("training",): 7}))
    error = caught.value
    assert (error.file, error.line, error.key, error.value) == ("r.yaml", 7, "training.steps", -1)
    several = {str(number): {"steps": 0} for number in range(12)}
    with pytest.raises(SettingsError) as caught:
        validate(Recipe, Settings({"name": "a", "several": several}))
    assert len(str(caught.value).splitlines()) == 11
    assert str(caught.value).endswith("and 2 more")


def test_alternatives_are_told_by_their_own_keys() -> None:
    either = Annotated[Recipe | Other, Field(discriminator="kind")]
    assert validate(either, Settings({"kind": "small", "only": 1})) == Other(kind="small", only=1)
    with pytest.raises(
        SettingsError, match=r"^settings: onli: unknown key.*'only'\? Known here: kind, only\."
    ):
        validate(either, Settings({"kind": "small", "only": 1, "onli": 2}))


def test_changes_are_yaml_and_make_missing_sections() -> None:
    changes = parse_changes(["a.b=3e-4", "c=[1, x]", "d= ", "e=k=v"])
    assert changes == {"a.b": 3e-4, "c": [1, "x"], "d": None, "e": "k=v"}
    before = Settings({"a": None, "c": {"x": 1}})
    assert override(before, changes).content == {"a": {"b": 3e-4}, "c": [1, "x"], "d": None, "e": "k=v"}
    assert before.content == {"a": None, "c": {"x": 1}}
    with pytest.raises(SettingsError, match="'c' is not a mapping"):
        override(Settings({"c": 1}), {"c.x": 1})


@pytest.mark.parametrize("text", ["steps", "=3", "a=[", " =1"])
def test_a_change_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"KEY=VALUE|not YAML"):
        parse_changes([text])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (".nan", "holds .nan, which is no number"),
        ("[1, .inf]", "holds .inf"),
        ("1e999", "holds 1e999"),
        ('"\\ud800"', "half a surrogate pair"),
        ("&a [*a]", "nested more than 50 deep"),
        ("[" * 20_000, "nested more than 50 deep"),
        ("{b: 1, b: 2}", "b: written twice"),
        ("2024-99-99", "is not YAML"),
        ("&a [1,1,1,1,1,1,1,1,1,1]", None),
    ],
)
def test_a_change_is_bounded_as_a_file_is(value: str, words: str | None) -> None:
    if words is None:
        assert parse_changes([f"a={value}"]) == {"a": [1] * 10}
        return
    with pytest.raises(SettingsError) as caught:
        parse_changes([f"a={value}"])
    assert words in str(caught.value)
    assert "--set" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_sixty_minutes_and_dates_are_no_infinity(tmp_path: Path) -> None:
    path = write(tmp_path, "a: 1:30.5\nb: 1_000.5\nc: inf\nd: nan\n")
    assert read_yaml(path).content == {"a": 90.5, "b": 1000.5, "c": "inf", "d": "nan"}


def test_json_is_read_by_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "a", "training": {"steps": 2}}')
    assert read_json(Recipe, path, remedy="Copy it again.").training.steps == 2
    for text, words in (
        ('{"name": "a", "training": {"steps": 0}}', r"a\.json: training\.steps: 0 is not allowed: .*\. Copy"),
        ("{", r"a\.json: invalid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError, match=words):
            read_json(Recipe, path, remedy="Copy it again.")
    with pytest.raises(SettingsError) as caught:
        validate(Versioned, Settings({"version": 1, "odd": 2}, "v.json"))
    assert str(caught.value) == "v.json: version: 1 is of another version of promptopt, and this one reads 2"
    with pytest.raises(SettingsError, match=r"b\.json: cannot be read"):
        read_json(Recipe, tmp_path / "b.json", remedy="Copy it again.")
