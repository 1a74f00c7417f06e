"""The caption grammar of MEDVQA-GI 2024: text to :class:`Attributes` and back.

::

    caption   = "Generate " ( "an image " statement | paris ) "."
    statement = "containing " ( "text" | BOX | FINDINGS | "the " LANDMARK | INSTRUMENTS )
              | "not containing " ( "text" | BOX )                BOX is "a green/black box artefact"
              | "from a " PROCEDURE " procedure"
              | "with " ( "no" | number ) " " ( "finding" | "polyp" | "instrument" ) ["s"]
              | "with an abnormality with the color" ["s"] " " COLORS
              | "with an " LOCATED " located in the " LOCATIONS
              | "with " ( "a polyp" | "polyps" ) " of size " SIZES
    paris     = ( "a polyp" | "polyps" ) " of type " PARIS        (each as "paris is")

The words in capitals are those of ``attributes``; a list is "a", "a and b" or "a, b and c", and "polyp" is
written "a polyp". :func:`render_caption` writes exactly this. :func:`parse_caption` also reads the set's
own slips ("an an", "lower-rigth", "snareandtube", "pink/red", "Pink findings", "< 5mm", ...) and says which
it met. Colors keep their order; sets are put into their one order and are written in the order the
challenge uses, so nothing but the slips is lost.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from studies.medvqa_gi import attributes as words
from studies.medvqa_gi._reader import Item, Reader
from studies.medvqa_gi.attributes import Attributes, CaptionError

BOX = "a green/black box artefact"

# The challenge writes the places of a landmark in another order than those of the rest.
_CORNERS_FIRST = (
    *("center", "upper-left", "upper-right", "lower-left", "lower-right", "center-left", "center-right"),
    *("upper-center", "lower-center"),
)
_ROW_BY_ROW = (
    *("center", "center-left", "center-right", "upper-center", "upper-left", "upper-right", "lower-center"),
    *("lower-left", "lower-right"),
)


@dataclass(frozen=True)
class ParsedCaption:
    """What a caption says, and the slips met in reading it, each a short description in words."""

    attributes: Attributes
    quirks: tuple[str, ...] = ()


def _items(names: tuple[str, ...], article: str = "", **slips: str) -> list[Item]:
    """How each name is written; ``slips`` maps a wrong spelling to the name it stands for."""
    return [Item(n, (f"{article}{n}",)) for n in names] + [Item(n, (s,), slip=True) for s, n in slips.items()]


_FINDINGS = [Item("polyp", ("a polyp", "polyp")), *_items(words.FINDINGS[1:])]
_LANDMARKS = [Item(name, (f"the {name}", name)) for name in words.LANDMARKS]
_INSTRUMENTS = [
    Item(name, (name, f"an {name}" if name[0] in "aeiou" else f"a {name}")) for name in words.INSTRUMENTS
]
_COLORS = _items(words.COLORS, ink="pink", gray="grey")
_SIZES = [
    Item(size, (size, size.replace("<", "< ").replace(">", "> ")) if size[0] in "<>" else (size,))
    for size in words.SIZES
]
_PARIS = [Item(name, (f"paris {name}", name)) for name in words.PARIS]
_LOCATIONS = [
    *_items(words.LOCATIONS),
    *(Item(n, (n.replace("right", "rigth"),), slip=True) for n in words.LOCATIONS if "right" in n),
]


def parse_caption(text: str) -> ParsedCaption:
    """Read one caption. Raises CaptionError naming the caption, the part not read and what would be right."""
    reader = Reader(text)
    reader.need("generate ")
    if not reader.take("an image "):
        found = _parse_polyps(reader, "of type ", _read_paris)
        if found is None:
            raise reader.error()
    elif reader.take("not containing "):
        found = _parse_artefact(reader, contained=False)
        if found is None:
            raise reader.error()
    elif reader.take("containing "):
        found = _parse_contained(reader)
    elif reader.take("from a "):
        procedure = reader.need_item("procedure", _items(words.PROCEDURES))
        reader.need(" procedure")
        found = Attributes(procedure=procedure)
    else:
        reader.need("with ")
        found = _parse_with(reader)
    reader.end()
    return ParsedCaption(attributes=found, quirks=reader.quirks())


def _parse_artefact(reader: Reader, *, contained: bool) -> Attributes | None:
    if reader.take("text"):
        return Attributes(text=contained)
    if reader.take(BOX):
        return Attributes(box_artefact=contained)
    return None


def _parse_contained(reader: Reader) -> Attributes:
    if (found := _parse_artefact(reader, contained=True)) is not None:
        return found
    if reader.sees(_INSTRUMENTS):  # before findings: "polyp snare" begins like "polyp"
        names = reader.read_list("instrument", _INSTRUMENTS)
        return _noting_order(reader, names, Attributes(instruments=names), lambda a: a.instruments)
    if reader.sees(_FINDINGS):
        names = reader.read_list("finding", _FINDINGS)
        return _noting_order(reader, names, Attributes(findings=names), lambda a: a.findings)
    return Attributes(landmark=reader.need_item("landmark", _LANDMARKS))


def _parse_with(reader: Reader) -> Attributes:
    found = _parse_polyps(reader, "of size ", _read_sizes)
    if found is not None:
        return found
    if reader.take("an "):
        if reader.take("an ", slip=True):
            reader.quirk("'an an' read as 'an'")
        return _parse_located(reader)
    if reader.sees(_COLORS, slip=True):  # "Pink findings": a color filled in where a count belongs
        colors = reader.read_list("color", _COLORS)
        reader.need(" findings")
        reader.quirk(f"'{colors[0]} findings' read as the colors of an abnormality")
        return Attributes(colors=colors)
    number = reader.take_pattern(r"(no|[0-9]{1,4})(?= )", "a number or 'no'")
    if number is None:
        raise reader.error()
    count = 0 if number == "no" else int(number)
    if count > words.MAX_COUNT:
        raise reader.error(f"a number up to {words.MAX_COUNT}", back=len(number))
    if number not in ("no", str(count)) or number == "0":
        reader.quirk(f"'{number}' read as '{count or 'no'}'")
    reader.need(" ")
    counted = reader.need_item(
        "what is counted", [Item(n, (n, n[:-1])) for n in words.COUNTED], articles=False
    )
    if reader.before().endswith("s") == (count == 1):
        reader.quirk("singular or plural not as the number")
    return Attributes(count=count, counted=counted)


def _parse_located(reader: Reader) -> Attributes:
    located = reader.need_item("what is located", _items(words.LOCATED))
    if located == "abnormality" and reader.take(" with the color"):
        plural = reader.take("s ")
        if not plural:
            reader.need(" ")
        colors = reader.read_list("color", _COLORS)
        if plural != (len(colors) > 1):
            reader.quirk("singular or plural not as the number")
        return Attributes(colors=colors)
    reader.need(" located in the ")
    places = reader.read_list("location", _LOCATIONS)
    return _noting_order(reader, places, Attributes(located=located, locations=places), _ordered_places)


def _read_paris(reader: Reader) -> Attributes:
    names = reader.read_list("Paris type", _PARIS)
    return _noting_order(reader, names, Attributes(paris=names), lambda a: a.paris)


def _read_sizes(reader: Reader) -> Attributes:
    names = reader.read_list("size", _SIZES)
    return _noting_order(reader, names, Attributes(sizes=names), lambda a: a.sizes)


def _noting_order(
    reader: Reader, names: tuple[str, ...], found: Attributes, kept: Callable[[Attributes], tuple[str, ...]]
) -> Attributes:
    if names != kept(found):
        reader.quirk("list put into the set's usual order")
    return found


def _parse_polyps(reader: Reader, then: str, read: Callable[[Reader], Attributes]) -> Attributes | None:
    """Read "a polyp" or "polyps", ``then``, and a list; None, and nothing read, if it begins otherwise."""
    for subject, plural in ((f"a polyp {then}", False), (f"polyps {then}", True)):
        if reader.take(subject):
            found = read(reader)
            if plural != (len(found.paris or found.sizes) > 1):
                reader.quirk("singular or plural not as the number")
            return found
    return None


def render_caption(attributes: Attributes) -> str:
    """Write the caption of one statement; the inverse of :func:`parse_caption`.

    Raises CaptionError if the attributes state nothing, or more than one thing.
    """
    stated = attributes.stated()
    if len(stated) != 1:
        raise CaptionError(
            f"a caption makes one statement, got {', '.join(stated) or 'none'}; "
            f"render {'each alone' if stated else 'attributes with one field set'}"
        )
    return f"Generate {_RENDERERS[stated[0]](attributes)}."


def _ordered_places(a: Attributes) -> tuple[str, ...]:
    order = _ROW_BY_ROW if a.located == "anatomical landmark" else _CORNERS_FIRST
    return tuple(place for place in order if place in a.locations)


def _render_count(a: Attributes) -> str:
    noun = str(a.counted)
    return f"an image with {a.count or 'no'} {noun[:-1] if a.count == 1 else noun}"


def _render_polyps(values: tuple[str, ...], then: str) -> str:
    return f"{'a polyp' if len(values) == 1 else 'polyps'} {then}{_join(values)}"


def _render_artefact(contained: bool | None, what: str) -> str:
    return f"an image {'' if contained else 'not '}containing {what}"


_RENDERERS: dict[str, Callable[[Attributes], str]] = {
    "findings": lambda a: f"an image containing {_join([_FINDING_TEXT[name] for name in a.findings])}",
    "landmark": lambda a: f"an image containing the {a.landmark}",
    "instruments": lambda a: f"an image containing {_join(a.instruments)}",
    "count": _render_count,
    "sizes": lambda a: f"an image with {_render_polyps(a.sizes, 'of size ')}",
    "paris": lambda a: _render_polyps(tuple(f"paris {name}" for name in a.paris), "of type "),
    "colors": lambda a: (
        f"an image with an abnormality with the color{'s' if len(a.colors) > 1 else ''} {_join(a.colors)}"
    ),
    "locations": lambda a: f"an image with an {a.located} located in the {_join(_ordered_places(a))}",
    "text": lambda a: _render_artefact(a.text, "text"),
    "box_artefact": lambda a: _render_artefact(a.box_artefact, BOX),
    "procedure": lambda a: f"an image from a {a.procedure} procedure",
}
_FINDING_TEXT: dict[str, str] = {item.name: item.spellings[0] for item in _FINDINGS}


def _join(items: tuple[str, ...] | list[str]) -> str:
    return re.sub(r", (?=[^,]*$)", " and ", ", ".join(items))
