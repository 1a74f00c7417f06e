"""Category and label of a picture from its captions."""

import pytest

from studies.medvqa_gi import parse_caption
from studies.medvqa_gi.meaning import category_and_label


@pytest.mark.parametrize(
    ("statements", "meaning"),
    [
        (["image containing a polyp", "image containing biopsy forceps"], ("polyps", "polyp")),
        (["image with 2 polyps", "image containing the cecum"], ("polyps", "polyp")),
        (["image with a polyp of size >20mm"], ("polyps", "polyp")),
        (["image containing a polyp and oesophagitis"], ("polyps", "polyp")),
        (["image with no polyps", "image containing the z-line"], ("landmarks", "z-line")),
        (["image containing oesophagitis", "image containing the pylorus"], ("landmarks", "pylorus")),
        (
            ["image with an anatomical landmark located in the center"],
            ("landmarks", "anatomical landmark"),
        ),
        (["image containing polyp snare and tube"], ("instruments", "polyp snare")),
        (["image containing tube"], ("instruments", "tube")),
        (["image with 1 instrument", "image with no polyps"], ("instruments", "instrument")),
        (
            ["image containing ulcerative colitis", "image with no instruments"],
            ("pathology", "ulcerative colitis"),
        ),
        (["image with 1 finding", "image with no polyps"], ("pathology", "abnormality")),
        (["image with an abnormality with the color red"], ("pathology", "abnormality")),
        (["image with no findings", "image with no polyps", "image containing text"], ("normal", "normal")),
    ],
)
def test_the_first_rule_that_holds_decides(statements: list[str], meaning: tuple[str, str]) -> None:
    parsed = [parse_caption(f"Generate an {statement}.").attributes for statement in statements]
    assert category_and_label(parsed) == meaning
    assert category_and_label(parsed[::-1]) == meaning


def test_a_paris_type_means_a_polyp() -> None:
    assert category_and_label([parse_caption("Generate a polyp of type paris ip.").attributes])[0] == "polyps"
