"""One picture of a source, before anything is decided about it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture, and what its source says of it.

    Attributes:
        name: its path in the source, with forward slashes.
        path: the file.
        label: its class.
        captions: of its own; none for the class's.
        center: where it is from, if that is known.
        group: the patient, or whatever else holds pictures together, if that is known.
    """

    name: str
    path: Path
    label: str
    captions: tuple[str, ...] = ()
    center: str | None = None
    group: str | None = None
