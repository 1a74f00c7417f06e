"""A category from a grammar: its slots, its words by their share, and what does not fit is left out."""

from pathlib import Path

import pytest
from PIL import Image

from promptopt.space.from_grammar import grammar_category
from promptopt.space.of_category import category_space
from studies.dataset import Dataset, DatasetError, Record, read_dataset, write_metadata
from studies.grammar import Grammar

GRAMMAR = Grammar.model_validate(
    {
        "slots": {"size": ["small", "large"], "light": ["dim"], "place": ["in a corner"]},
        "captions": {
            "of": {
                "polyps": "an image of a[ {size}] polyp[, {light}][, {place}]",
                "normal": "an image of a wall[, {light}]",
            }
        },
    }
)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    records = []
    for i in range(20):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
        said = {"size": "small" if i % 4 else "large"} | ({"light": "dim"} if i < 4 else {})
        said |= {"place": "in a corner"} if i == 5 else {}
        label = "polyp" if i < 16 else "wall"
        category = "polyps" if i < 16 else "normal"
        own = said if i < 16 else {}
        records.append(Record(f"{i}.png", ("a",), category, label, "a", str(i), "reference", own))
    write_metadata(tmp_path, records)
    return read_dataset(tmp_path)


def test_slots_and_shares_are_those_of_the_pictures(data: Dataset) -> None:
    category = grammar_category(data, "polyps", GRAMMAR)
    assert category.baseline == "an image of a polyp"
    assert category.template == "an image of a __size__ polyp __light__ __place__"
    assert category.wildcards["size"] == ["50::", "37.5::small", "12.5::large"]
    assert category.wildcards["light"] == ["87.5::", "12.5::, dim"]
    assert category.distractors == {"normal": ["an image of a wall"]}
    space = category_space(category)
    texts = {space.render(choice) for choice in space.enumerate()}
    assert "an image of a large polyp, dim, in a corner" in texts
    assert len(texts) == 3 * 2 * 2
    assert grammar_category(data, "polyp", GRAMMAR).template == category.template  # the label does, too


def test_rare_slots_go_where_prompts_would_be_too_long(data: Dataset) -> None:
    short = grammar_category(data, "polyps", GRAMMAR, count_tokens=lambda text: len(text.split()), limit=7)
    assert list(short.wildcards) == ["size", "light"]
    assert short.template == "an image of a __size__ polyp __light__"


def test_faults_are_named(data: Dataset) -> None:
    with pytest.raises(DatasetError, match="'tubes'"):
        grammar_category(data, "tubes", GRAMMAR)
    with pytest.raises(DatasetError, match="prepare the data with --grammar"):
        grammar_category(data, "normal", GRAMMAR)
    pair = {"slots": {"a": ["x"], "b": ["y"]}, "captions": {"of": {"polyps": "an image[ {a} {b}]"}}}
    with pytest.raises(DatasetError, match="one slot in a part"):
        grammar_category(data, "polyps", Grammar.model_validate(pair))
