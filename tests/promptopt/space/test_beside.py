"""Negative prompts and generation settings as slots beside the words, from the category to prompts.json."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.space import Candidate, beside, compile_template
from promptopt.space.prompt_lines import PromptFileError
from promptopt.study.run import run_study
from promptopt.synthesis.prompt_files import read_prompt_file
from studies.category import Category
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, category, study, write_squares


def test_slots_beside_the_words() -> None:
    words = compile_template("a {red|pink} polyp")
    negative = compile_template("${c=!{dark|dim}}{|2::blurred}{, ${c}|}, ${c} corners")
    space = beside(
        words, negative=negative, generation_parameters={"guidance": [2.0, 5.5], "scheduler": ["ddim"]}
    )
    assert [(slot.name, slot.kind, slot.options) for slot in space.slots] == [
        ("slot1", "prompt", ("red", "pink")),
        ("negative_slot1", "negative", ("", "blurred")),
        ("negative_c", "negative", ("dark", "dim")),
        ("negative_slot2", "negative", (", ${negative_c}", "")),
        ("guidance", "parameter", ("2", "5.5")),
        ("scheduler", "parameter", ("ddim",)),
    ]
    assert space.size == math.prod(len(slot.options) for slot in space.slots) == 32
    assert len(space.distinct(100)) == 32
    first, *_, last = space.enumerate()
    assert space.render(first) == "a red polyp"
    assert space.candidate(first) == Candidate(
        "a red polyp", "dark, dark corners", {"guidance": 2.0, "scheduler": "ddim"}
    )
    assert str(space.candidate(last)) == (
        "a pink polyp [negative: blurred, dim corners] [guidance 5.5, scheduler ddim]"
    )


def test_parameters_that_cannot_be() -> None:
    space = compile_template("__steps__", {"steps": ["a", "b"]})
    with pytest.raises(ValueError, match=r"name of a slot .*rename the wildcard"):
        beside(space, generation_parameters={"steps": [1, 2]})
    with pytest.raises(ValueError, match="each once"):
        beside(space, generation_parameters={"guidance": [2, 2.0]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generation_parameters": {"size": [1]}}, "'size' is nothing that a category can vary"),
        ({"generation_parameters": {"lora_scale": [-1]}}, "give a number from 0 to 10"),
        ({"generation_parameters": {"generator": [3]}}, "give a name"),
        ({"generation_parameters": {"guidance": []}}, "give a list of values"),
        (
            {"generation_parameters": {"guidance": [1, "x"]}},
            "'guidance' has 'x'; give a number from 0 to 100",
        ),
        ({"generation_parameters": {"steps": [2.5]}}, "whole number"),
        ({"generation_parameters": {"steps": [True]}}, "whole number"),
        ({"generation_parameters": {"guidance": [2, 2.0]}}, "twice"),
        ({"knobs": {"steps": [2]}}, "the key 'knobs' is now called 'generation_parameters'; rename it"),
        ({"negative_template": "{a|b}", "negative_prompt": "c"}, "leave one out"),
    ],
)
def test_a_category_names_what_is_wrong_with_its_parameters(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Category.model_validate({**category(), **changes})


def test_a_category_that_uses_none_of_it_is_written_as_before() -> None:
    content = Category.model_validate(category()).model_dump(mode="json")
    assert not {"negative_template", "generation_parameters"} & set(content)
    full = {**category(), "negative_template": "{a|b}", "generation_parameters": {"guidance": [2, 3]}}
    again = Category.model_validate(full).model_dump(mode="json")
    assert again["generation_parameters"] == {"guidance": [2.0, 3.0]}
    assert Category.model_validate(again) == Category.model_validate(full)


def run(folder: Path, data: Path, model: SquareGenerator, **own: Any) -> Any:
    words = {**category(), **own.pop("category", {})}
    search = {"trials": 8, "images": 5, "sampler": "random"}
    config = study_from_mapping(
        study(folder, data=str(data), category=words, search=search, **own), base=folder
    )
    return run_study(
        config, runs=folder / "runs", store=folder / "store", generator=model, encoder=ColorEncoder()
    )


@pytest.mark.slow
def test_what_was_chosen_reaches_the_generator_and_prompts_json(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    generator = SquareGenerator()
    own = {
        "negative_template": "{blurred|dark|}",
        "generation_parameters": {"guidance": [2, 5], "steps": [3]},
    }
    result = run(tmp_path, data, generator, category=own)
    content = json.loads(result.prompts_path.read_text(encoding="utf-8"))
    found = [entry for entry in content["prompts"] if "generation_parameters" in entry]
    assert found
    made = {(r.prompt, r.negative_prompt, r.guidance, r.steps) for r in generator.made}
    for entry in found:
        assert entry["generation_parameters"]["guidance"] in (2.0, 5.0)
        assert entry["negative_prompt"] in ("blurred", "dark", "")
        assert entry["slots"]["guidance"] == f"{entry['generation_parameters']['guidance']:g}"
        assert "\n" not in entry["prompt"]
        assert (
            entry["prompt"],
            entry["negative_prompt"],
            entry["generation_parameters"]["guidance"],
            entry["generation_parameters"]["steps"],
        ) in made
    plain = next(entry for entry in content["prompts"] if "generation_parameters" not in entry)
    assert plain["prompt"] == content["baseline"]["prompt"]
    assert {entry.label for entry in result.prompts.prompts} >= set(result.prompts.tied)
    again = SquareGenerator()
    assert run(tmp_path, data, again, category=own).prompts_path.read_bytes()
    assert again.made == []
    with pytest.raises(PromptFileError, match="generation parameters of its own"):
        read_prompt_file(result.prompts_path)


def test_one_prompt_under_two_settings_is_two_candidates(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    own = {"template": "a red square", "wildcards": {}, "generation_parameters": {"guidance": [2, 5]}}
    result = run(tmp_path, data, SquareGenerator(), category=own)
    assert result.prompts.prompts_scored == 2
    assert sorted(
        e.generation_parameters["guidance"] for e in result.prompts.prompts if e.generation_parameters
    ) == [2.0, 5.0]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"category": {"negative_template": "{a|b"}},
            "negative_template: negative_template, line 1, column 1",
        ),
        ({"category": {"negative_template": "{a|" + "so " * 20 + "}"}}, "negative prompts exceed"),
        (
            {"category": {"negative_template": "{a|b}"}, "generator": {"negative_prompt": "c"}},
            "fixes what the negative_template",
        ),
    ],
)
def test_faults_are_refused_before_any_image(tmp_path: Path, own: dict[str, Any], words: str) -> None:
    generator = SquareGenerator()
    with pytest.raises(StudyError, match=words):
        run(tmp_path, write_squares(tmp_path / "data"), generator, **own)
    assert generator.made == []
