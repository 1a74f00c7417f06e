"""Which captions are taken for English."""

import pytest

from studies.folders.language import foreign_caption

ENGLISH = [
    "an image of normal",
    "polyp",
    "polyp, red, 5 mm",
    "a photo of \u03b1-cells",
    "a picture of la cosa nostra in Rome",
    "Generate an image containing a polyp.",
    "",
]


@pytest.mark.parametrize(
    ("caption", "language"),
    [
        ("ein Polyp im Kolon", "German"),
        ("image d'un polype dans le côlon", "French"),
        ("imagen de un pólipo", "Spanish"),
        ("foto van een poliep in de darm", "Dutch"),
        ("结肠息肉", "Chinese"),
        ("ポリープ", "Japanese"),
        ("Полип толстой кишки", "written in Cyrillic letters"),
    ],
)
def test_other_languages_are_recognized(caption: str, language: str) -> None:
    assert foreign_caption([caption]) == (caption, language)


def test_english_is_not_and_few_foreign_captions_do_not_count() -> None:
    assert foreign_caption(ENGLISH) is None
    assert foreign_caption([*ENGLISH, "ein Polyp im Kolon"]) is None
    assert foreign_caption([]) is None
