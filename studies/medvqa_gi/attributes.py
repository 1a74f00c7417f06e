"""What one caption of the challenge says, as values: :class:`Attributes`, and the words it may use.

The challenge's captions each make one statement ("with 2 polyps", "containing the z-line"); a picture has
about ten of them. Where a statement is a set (findings, instruments, sizes, Paris types, places), its members
are kept in the one order given here, so that equal sets are equal values. Colors are kept in the order
written: the same colors occur in many orders, so the order is the annotators' own and may say which color
prevails.
"""

from dataclasses import dataclass, fields
from typing import Any

from promptopt.base.errors import PromptoptError

FINDINGS = ("polyp", "ulcerative colitis", "oesophagitis", "barretts")
LANDMARKS = ("z-line", "cecum", "ileum", "pylorus")
# The most telling first: a picture of a snare in its tube is a picture of a snare.
INSTRUMENTS = ("biopsy forceps", "polyp snare", "metal clip", "injection needle", "tube")
SIZES = ("<5mm", "5-10mm", "11-20mm", ">20mm")
PARIS = ("ip", "is", "iia")
COLORS = (
    *(
        "pink",
        "red",
        "white",
        "yellow",
        "grey",
        "brown",
        "orange",
        "black",
        "purple",
        "blue",
        "green",
        "violet",
    ),
    *("burgundy", "pale pink"),
)
PROCEDURES = ("colonoscopy", "gastroscopy")
COUNTED = ("findings", "polyps", "instruments")
LOCATED = ("abnormality", "instrument", "anatomical landmark")
ROWS = ("upper", "center", "lower")
COLUMNS = ("left", "center", "right")
LOCATIONS = tuple("center" if r == c == "center" else f"{r}-{c}" for r in ROWS for c in COLUMNS)
MAX_COUNT = 99


class CaptionError(PromptoptError, ValueError):
    """A caption, or a set of attributes, outside the grammar.

    ``caption`` is the whole caption, ``unread`` the part from which on it could not be read (in lower case),
    ``expected`` what would have been right there; the first two are empty if the fault lies in attributes.
    """

    def __init__(
        self, message: str, *, caption: str = "", unread: str = "", expected: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.caption = caption
        self.unread = unread
        self.expected = expected


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """One statement about a picture. Fields that are not set are not spoken of, which is not a denial.

    - ``findings``: of FINDINGS; ``landmark``: of LANDMARKS; ``instruments``: of INSTRUMENTS
    - ``count`` (0 to 99) of ``counted`` (of COUNTED); 0 is the denial "no polyps"
    - ``sizes`` of SIZES and ``paris`` of PARIS: of the polyps
    - ``colors`` of COLORS, in the order written: of the abnormality
    - ``locations`` of LOCATIONS, places of a 3x3 grid, of what ``located`` names (of LOCATED)
    - ``text``, ``box_artefact``: True contained, False denied, None not spoken of
    - ``procedure``: of PROCEDURES

    Raises CaptionError for a word outside these lists, a word twice, or a half of a pair without the other.
    """

    findings: tuple[str, ...] = ()
    landmark: str | None = None
    instruments: tuple[str, ...] = ()
    count: int | None = None
    counted: str | None = None
    sizes: tuple[str, ...] = ()
    paris: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    located: str | None = None
    locations: tuple[str, ...] = ()
    text: bool | None = None
    box_artefact: bool | None = None
    procedure: str | None = None

    def __post_init__(self) -> None:
        sets = {
            "findings": FINDINGS,
            "instruments": INSTRUMENTS,
            "sizes": SIZES,
            "paris": PARIS,
            "locations": LOCATIONS,
        }
        for name, words in {**sets, "colors": COLORS}.items():
            value = getattr(self, name)
            if isinstance(value, str):
                raise CaptionError(f"{name}: got the string {value!r}; give a tuple of words")
            value = tuple(value)
            for word in value:
                _check(name, word, words)
            if len(set(value)) != len(value):
                raise CaptionError(f"{name}: got {value!r}, a word twice; name each once")
            if name in sets:
                value = tuple(word for word in words if word in value)
            object.__setattr__(self, name, value)
        for name, words in {
            "landmark": LANDMARKS,
            "procedure": PROCEDURES,
            "counted": COUNTED,
            "located": LOCATED,
        }.items():
            if (value := getattr(self, name)) is not None:
                _check(name, value, words)
        for name in ("text", "box_artefact"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), bool):
                raise CaptionError(f"{name}: got {getattr(self, name)!r}; give True, False or None")
        if (self.count is None) != (self.counted is None):
            raise CaptionError(f"count {self.count!r} and counted {self.counted!r}; give both or none")
        if self.count is not None and (
            isinstance(self.count, bool)
            or not isinstance(self.count, int)
            or not 0 <= self.count <= MAX_COUNT
        ):
            raise CaptionError(f"count: got {self.count!r}; give a whole number from 0 to {MAX_COUNT}")
        if bool(self.locations) != (self.located is not None):
            raise CaptionError(
                f"locations {self.locations!r} and located {self.located!r}; give both or none"
            )

    def stated(self) -> tuple[str, ...]:
        """The names of the fields that are set, a pair counting as its first field."""
        names = (f.name for f in fields(self) if f.name not in ("counted", "located"))
        return tuple(name for name in names if getattr(self, name) not in (None, ()))

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v not in (None, ())}


def _check(name: str, word: object, words: tuple[str, ...]) -> None:
    if word not in words:
        raise CaptionError(f"{name}: got {word!r}; use {', '.join(words)}", expected=words)
