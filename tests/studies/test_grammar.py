"""A user's grammar: words become attributes, attributes captions, and a wrong file is named."""

from pathlib import Path

import pytest

from studies.dataset import DatasetError
from studies.grammar import Grammar, load_grammar

WORDS = """
slots:
  sharpness: {sharp: sharp, moderately sharp: "", blurred: blurred}
  edge: [no black edge, black edge]
  size: [small, large]
measure:
  sharpness: {slot: sharpness, low: blurred, high: sharp, share: 0.25}
captions:
  of: {polyp: "an image of a[ {size}] polyp[, {sharpness}][, {edge}]"}
  count: 40
  keep: 0.5
"""


@pytest.fixture
def grammar(tmp_path: Path) -> Grammar:
    (tmp_path / "words.yaml").write_text(WORDS, "utf-8")
    return load_grammar(tmp_path / "words.yaml")


def test_the_longest_words_are_read_and_nothing_twice(grammar: Grammar) -> None:
    assert grammar.read(["A moderately sharp image with no black edge."]) == {
        "sharpness": "",
        "edge": "no black edge",
    }
    assert grammar.read(["a small-cell, unsharp image"]) == {}
    assert grammar.read(["Large, then small.", "Small again"]) == {"size": "large"}


def test_pixels_speak_where_captions_do_not(grammar: Grammar) -> None:
    read = [{"sharpness": ""}, {}, {}, {"sharpness": "blurred", "size": "small"}]
    looks = [{"sharpness": value} for value in (9.0, 1.0, 2.0, 8.0)]
    assert grammar.with_measured(read, looks) == [
        {},  # its caption says "moderately sharp", however sharp it looks
        {"sharpness": "blurred"},
        {},
        {"sharpness": "blurred", "size": "small"},
    ]


def test_captions_say_some_of_the_attributes(grammar: Grammar) -> None:
    attributes = {"size": "large", "edge": "black edge"}
    texts = grammar.write(("polyp", "polyps"), attributes, key="a.jpg")
    assert set(texts) == {
        "an image of a polyp",
        "an image of a large polyp",
        "an image of a polyp, black edge",
        "an image of a large polyp, black edge",
    }
    assert texts == grammar.write(("polyp",), attributes, key="a.jpg")
    assert grammar.write(("normal",), attributes, key="a.jpg") == ()
    assert grammar.prompt(("polyp",), {"sharpness": "sharp"}) == "an image of a polyp, sharp"
    own = Grammar.model_validate({"slots": {"hue": ["orange"]}, "captions": {"of": {"x": "a[ {hue}] dot"}}})
    assert own.prompt(("x",), {"hue": "orange"}) == "an orange dot"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("slot: sharpness", "slot: haze"), "there is no slot 'haze'"),
        (("  sharpness: {slot", "  warmth: {slot"), "'warmth' does not exist"),
        (("[, {edge}]", "[, {edge}"), "does not close"),
        (("{edge}]", "{light}]"), "there is no slot 'light'"),
        (("[small, large]", "[small, sharp]"), "'sharp' stands in 'sharpness' and 'size'"),
        (("count: 40", "count: 0"), "captions.count"),
        (("keep: 0.5", "kept: 0.5"), "kept"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(WORDS.replace(*change), "utf-8")
    with pytest.raises(DatasetError, match=r"words\.yaml") as caught:
        load_grammar(file)
    assert said in str(caught.value)


def test_the_file_that_ships_is_right() -> None:
    root = Path(__file__).resolve().parents[2]
    grammar = load_grammar(root / "studies" / "files" / "endoscopy-words.yaml")
    assert grammar.read(["Generate a fairly evenly lit image containing a medium-sized polyp."]) == {
        "evenness": "",
        "size": "",
    }
