"""The organizers' script of the 2025 edition: its two editable sections, and all that must stay as it is.

The script is the user's own copy, or that of the installed `medvqa` package; none ships with this project.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from promptopt.run.errors import ExportError

NAMES = ("test_prompts", "num_per_prompt", "output_folder", "device")
"""What the sections are given by the text around them."""
_BEGIN = re.compile(rb"^#[^\n]*EDIT SECTION (?P<number>\d+)\b[^\n]*$", re.MULTILINE)
_END = re.compile("^#[^A-Za-z\n]*\N{CHEQUERED FLAG}[^A-Za-z\n]*END\\b[^\n]*$".encode(), re.MULTILINE)
_SAMPLE = ("medvqa", "submission_samples/gi-2025/submission_task2.py")


@dataclass(frozen=True)
class Template:
    """A script in parts: `fixed` the three stretches that no participant may change, markers included, and
    `sections` the two between them, all as bytes."""

    fixed: tuple[bytes, bytes, bytes]
    sections: tuple[bytes, bytes]

    def filled(self, first: str, second: str) -> bytes:
        """The script with these sections, their line ends as the template has them."""
        ends = b"\r\n" if b"\r\n" in self.fixed[0] else b"\n"
        texts = [b"\n" + text.strip("\n").encode() + b"\n\n" for text in (first, second)]
        own = [text.replace(b"\n", ends) for text in texts]
        return self.fixed[0] + own[0] + self.fixed[1] + own[1] + self.fixed[2]

    def info(self) -> dict[str, object]:
        """SUBMISSION_INFO of the first section, without running it.

        Raises ExportError when it is missing or not written out.
        """
        try:
            for node in ast.parse(self.sections[0].decode("utf-8-sig")).body:
                names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
                if isinstance(node, ast.Assign) and names == ["SUBMISSION_INFO"]:
                    value = ast.literal_eval(node.value)
                    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
                        return value
        except (SyntaxError, ValueError) as error:
            raise ExportError(f"SUBMISSION_INFO cannot be read ({error})") from error
        raise ExportError("SUBMISSION_INFO is missing, or no dictionary that is written out")


def split(script: bytes, where: object) -> Template:
    """The parts of a script.

    Raises ExportError, naming what is missing: a marker, a name that the sections need, or Python.
    """
    begins = {int(match["number"]): match for match in _BEGIN.finditer(script)}
    ends = list(_END.finditer(script))
    if sorted(begins) != [1, 2] or len(_BEGIN.findall(script)) != 2 or len(ends) != 2:
        raise ExportError(
            f"{where}: has {len(_BEGIN.findall(script))} markers `EDIT SECTION` and {len(ends)} that end "
            "one, and the script of subtask 2 has two of each; give submission_task2.py of gi-2025"
        )
    points = [
        _after(script, begins[1].end()),
        ends[0].start(),
        _after(script, begins[2].end()),
        ends[1].start(),
    ]
    if points != sorted(points):
        raise ExportError(f"{where}: its markers are not in order; give the organizers' own file")
    fixed = (script[: points[0]], script[points[1] : points[2]], script[points[3] :])
    around = b"".join(fixed)
    missing = [name for name in NAMES if not re.search(rf"\b{name}\b".encode(), around)]
    if missing:
        raise ExportError(
            f"{where}: does not define {', '.join(missing)}, so this is another task's script; give "
            "submission_task2.py of gi-2025"
        )
    return Template(fixed, (script[points[0] : points[1]], script[points[2] : points[3]]))


def read_template(path: Path | None) -> Template:
    """The user's copy, or the one in the installed `medvqa` package.

    Raises ExportError: there is none, or it is another script.
    """
    place = path if path is not None else installed()
    if place is None:
        raise ExportError(
            "the organizers' script is not here: give your copy of submission_task2.py by --template, or "
            "`pip install medvqa`, which brings it"
        )
    try:
        script = place.read_bytes()
    except OSError as error:
        raise ExportError(f"{place}: cannot be read ({error.strerror}); check --template") from error
    return split(script, place)


def installed() -> Path | None:
    """The template in the `medvqa` package, if that is installed; its code is not run."""
    spec = find_spec(_SAMPLE[0])
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / _SAMPLE[1]
        if path.is_file():
            return path
    return None


def _after(script: bytes, position: int) -> int:
    """Behind the line end."""
    following = script.find(b"\n", position)
    return len(script) if following < 0 else following + 1
