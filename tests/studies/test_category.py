"""Category files: read whole, and refused with the key and the remedy."""

from pathlib import Path

import pytest

from studies.category import Category, CategoryError, load_category

GOOD = """\
name: birds
title: Birds
template: "a __color__ bird"
wildcards:
  color: ["", red, blue]
texts: [a bird, "a photo of a bird"]
distractors:
  plane: [a plane]
baseline: a bird
"""


def write(folder: Path, content: str) -> Path:
    path = folder / "birds.yaml"
    path.write_text(content, "utf-8")
    return path


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    category = load_category(write(tmp_path, GOOD))
    assert category == Category(
        name="birds",
        title="Birds",
        template="a __color__ bird",
        wildcards={"color": ["", "red", "blue"]},
        texts=["a bird", "a photo of a bird"],
        distractors={"plane": ["a plane"]},
        baseline="a bird",
        negative_prompt="",
    )
    assert load_category(str(tmp_path / "birds.yaml")) == category


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("baseline: a bird", "", r"birds\.yaml: baseline: missing\. Add it"),
        (
            "title: Birds",
            "tilte: Birds",
            r"line 2: tilte: unknown key; did you mean 'title'\? Known here: name, title",
        ),
        ("title: Birds", "title: ' '", r"title: ' ' is not allowed\. Write text that is not empty"),
        ("name: birds", "name: no", r"line 1: name: False is not allowed\. .*quotes"),
        ("red, blue", "red, 5", r"wildcards\.color\.2: 5 is not allowed\. .*quotes"),
        ("red, blue", "red, red", r"wildcards: 'color' has 'red' twice"),
        ('["", red, blue]', "[]", r"wildcards: 'color' is empty"),
        ('["", red, blue]', "red", r"wildcards\.color: 'red' is not allowed\. Write a list"),
        ('[a bird, "a photo of a bird"]', "[]", r"texts: is empty"),
        ('[a bird, "a photo of a bird"]', "['']", r"texts\.0: '' is not allowed"),
        ("title: Birds", "title: Birds\ntitle: More", r"line 3: title: written twice"),
        ("title: Birds", "title: [", r"line \d+: not valid YAML, column \d+: .*Correct it there"),
        (GOOD, "- a list\n", r"holds a list, not a mapping .*the keys name, title"),
        (GOOD, "", r"holds nothing, not a mapping"),
        (GOOD, "!!python/object/apply:os.getcwd []\n", r"could not determine a constructor"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(CategoryError, match=said) as error:
        load_category(path)
    assert str(path) in str(error.value)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CategoryError, match="'polyp' does not exist; use polyps, landmarks, instruments"):
        load_category("polyp")
    with pytest.raises(CategoryError, match="no such file"):
        load_category(tmp_path / "absent.yaml")
    with pytest.raises(CategoryError, match="cannot be read"):
        load_category(tmp_path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(CategoryError, match="not UTF-8 at byte 6"):
        load_category(path)
