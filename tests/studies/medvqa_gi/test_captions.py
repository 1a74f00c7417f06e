"""The caption grammar: round trips, the set's slips, and captions it must refuse."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.medvqa_gi import Attributes, CaptionError, parse_caption, render_caption
from studies.medvqa_gi import attributes as words


def subsets(options: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(options), min_size=1, unique=True).map(tuple)


def one(name: str, strategy: st.SearchStrategy[object]) -> st.SearchStrategy[Attributes]:
    return strategy.map(lambda value: Attributes(**{name: value}))  # type: ignore[arg-type]


STATEMENTS = st.one_of(
    one("findings", subsets(words.FINDINGS)),
    one("landmark", st.sampled_from(words.LANDMARKS)),
    one("instruments", subsets(words.INSTRUMENTS)),
    st.builds(Attributes, count=st.integers(0, 99), counted=st.sampled_from(words.COUNTED)),
    one("sizes", subsets(words.SIZES)),
    one("paris", subsets(words.PARIS)),
    one("colors", subsets(words.COLORS)),
    st.builds(Attributes, located=st.sampled_from(words.LOCATED), locations=subsets(words.LOCATIONS)),
    one("text", st.booleans()),
    one("box_artefact", st.booleans()),
    one("procedure", st.sampled_from(words.PROCEDURES)),
)


@given(STATEMENTS)
def test_what_is_rendered_is_read_back_without_a_slip(attributes: Attributes) -> None:
    parsed = parse_caption(render_caption(attributes))
    assert parsed.attributes == attributes
    assert parsed.quirks == ()


@given(STATEMENTS, st.sampled_from([str.upper, str.lower, lambda s: f"  {s}\r\n", lambda s: s[:-1]]))
def test_case_spaces_and_the_full_stop_do_not_change_the_meaning(attributes: Attributes, spoil) -> None:
    parsed = parse_caption(spoil(render_caption(attributes)))
    assert parsed.attributes == attributes
    assert parsed.quirks


@given(st.text(max_size=60) | st.text(max_size=30).map(lambda s: f"Generate an image with {s}"))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    parsed = refused = None
    try:
        parsed = parse_caption(text)
    except CaptionError as error:
        refused = error
    if parsed is not None:
        assert parse_caption(render_caption(parsed.attributes)).attributes == parsed.attributes
    if refused is not None:
        assert refused.caption == text
        assert refused.expected
        assert repr(refused.unread) in str(refused)


@pytest.mark.parametrize(
    ("caption", "attributes", "rendered", "quirks"),
    [
        (
            "Generate an image with an an anatomical landmark located in the center and lower-rigth.",
            Attributes(located="anatomical landmark", locations=("center", "lower-right")),
            "Generate an image with an anatomical landmark located in the center and lower-right.",
            ("'an an' read as 'an'", "'lower-rigth' read as 'lower-right'"),
        ),
        (
            "Generate an image containing polyp snareandtube.",
            Attributes(instruments=("polyp snare", "tube")),
            "Generate an image containing polyp snare and tube.",
            ("'polyp snareandtube' read as 'polyp snare and tube'",),
        ),
        (
            "Generate an image containing a polypandoesophagitis.",
            Attributes(findings=("polyp", "oesophagitis")),
            "Generate an image containing a polyp and oesophagitis.",
            ("'polypandoesophagitis' read as 'polyp and oesophagitis'",),
        ),
        (
            "Generate an image with an abnormality with the color pink/red.",
            Attributes(colors=("pink", "red")),
            "Generate an image with an abnormality with the colors pink and red.",
            ("'pink/red' read as 'pink and red'", "singular or plural not as the number"),
        ),
        (
            "Generate an image with Pink findings.",
            Attributes(colors=("pink",)),
            "Generate an image with an abnormality with the color pink.",
            ("'Pink' read as 'pink'", "'pink findings' read as the colors of an abnormality"),
        ),
        (
            "Generate an image with polyps of size < 5mm and >20mm.",
            Attributes(sizes=("<5mm", ">20mm")),
            "Generate an image with polyps of size <5mm and >20mm.",
            ("'< 5mm' read as '<5mm'",),
        ),
        (
            "Generate polyps of type paris iia and paris is.",
            Attributes(paris=("is", "iia")),
            "Generate polyps of type paris is and paris iia.",
            ("list put into the set's usual order",),
        ),
        (
            "Generate an image with no polyps.",
            Attributes(count=0, counted="polyps"),
            "Generate an image with no polyps.",
            (),
        ),
        (
            "Generate an image not containing a green/black box artefact.",
            Attributes(box_artefact=False),
            "Generate an image not containing a green/black box artefact.",
            (),
        ),
    ],
)
def test_examples(caption: str, attributes: Attributes, rendered: str, quirks: tuple[str, ...]) -> None:
    parsed = parse_caption(caption)
    assert parsed.attributes == attributes
    assert parsed.quirks == quirks
    assert render_caption(attributes) == rendered


def test_colors_keep_their_order_and_places_do_not() -> None:
    start = "Generate an image with an abnormality"
    assert parse_caption(f"{start} with the colors red and pink.").attributes.colors == ("red", "pink")
    one_way, other = (
        parse_caption(f"{start} located in the {places}.").attributes
        for places in ("center and upper-left", "upper-left and center")
    )
    assert one_way == other


@pytest.mark.parametrize(
    ("caption", "unread", "right"),
    [
        ("", ".", "generate"),
        ("A polyp.", "a polyp.", "generate"),
        ("Generate an image with a giraffe.", "a giraffe.", "a polyp of size"),
        ("Generate an image with 2 dogs.", "dogs.", "polyps"),
        ("Generate an image with 100 polyps.", "100 polyps.", "up to 99"),
        ("Generate an image with \u0661 polyp.", "\u0661 polyp.", "number"),
        ("Generate an image containing a polyp and dogs.", "dogs.", "ulcerative colitis"),
        ("Generate an image containing textbooks.", "books.", "the end"),
        ("Generate an image not containing a polyp.", "a polyp.", "green/black box artefact"),
        ("Generate an image from a bronchoscopy procedure.", "bronchoscopy procedure.", "gastroscopy"),
        ("Generate an image with an instrument located in the right.", "right.", "upper-right"),
        ("Generate an image with an abnormality with the colors red and red.", "red.", "named twice"),
        ("Generate an image with an abnormality with the color beige.", "beige.", "burgundy"),
        ("Generate a polyp of type paris iv.", "paris iv.", "paris iia"),
        ("Generate an image with 1 polyp. And text.", ". and text.", "the end"),
    ],
)
def test_an_unknown_caption_names_what_could_not_be_read(caption: str, unread: str, right: str) -> None:
    with pytest.raises(CaptionError) as error:
        parse_caption(caption)
    assert error.value.unread == unread
    assert right in " ".join(error.value.expected)
    assert repr(caption) in str(error.value)
    assert right in str(error.value)


@pytest.mark.parametrize(
    "attributes",
    [Attributes(), Attributes(text=True, procedure="colonoscopy"), Attributes(paris=("is",), text=False)],
)
def test_a_caption_states_exactly_one_thing(attributes: Attributes) -> None:
    with pytest.raises(CaptionError, match="one statement"):
        render_caption(attributes)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"findings": ("dog",)}, "findings: got 'dog'; use polyp"),
        ({"findings": "polyp"}, "give a tuple"),
        ({"colors": ("red", "red")}, "twice"),
        ({"count": 3}, "give both or none"),
        ({"count": -1, "counted": "polyps"}, "from 0 to 99"),
        ({"count": True, "counted": "polyps"}, "from 0 to 99"),
        ({"located": "instrument"}, "give both or none"),
        ({"landmark": "colon"}, "landmark: got 'colon'"),
        ({"text": 1}, "True, False or None"),
    ],
)
def test_attributes_outside_the_grammar_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(CaptionError, match=said):
        Attributes(**values)  # type: ignore[arg-type]


def test_every_caption_of_the_challenge(shared_data: Path) -> None:
    with (shared_data / "medvqa-gi-2024-captions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=";"))
    assert len(rows) == 483
    counts: dict[str, int] = {}
    for row in rows:
        caption = row["Prompt"]
        parsed = parse_caption(caption)
        rendered = render_caption(parsed.attributes)
        assert parse_caption(rendered).attributes == parsed.attributes
        assert parse_caption(rendered).quirks == ()
        # The slips put right by hand, without the grammar.
        right = caption.replace("an an ", "an ").replace("rigth", "right").replace("< 5", "<5")
        right = re.sub(r"(polyp|forceps|snare|clip)and", r"\1 and ", right)
        right = right.replace("color pink/red", "colors pink and red").replace("colors ink", "colors pink")
        right = right.replace("with Pink findings", "with an abnormality with the color pink")
        assert rendered == right
        assert bool(parsed.quirks) == (right != caption)
        for quirk in parsed.quirks:
            counts[quirk] = counts.get(quirk, 0) + int(row["Count"])
    assert counts["'lower-rigth' read as 'lower-right'"] == 198
    assert counts["'an an' read as 'an'"] == 2693
