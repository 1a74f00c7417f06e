"""Who submits: a YAML file of the participant's own."""

from __future__ import annotations

from pathlib import Path

from promptopt.base.settings import read_yaml
from promptopt.run.errors import ExportError

EXAMPLE = """\
Participant_Names: A. Person and B. Person
Affiliations: University of Somewhere
Contact_emails: [a.person@example.org]
Team_Name: Our team
Country: Norway
Notes_to_organizers: optional
"""


def read_team(path: Path) -> dict[str, object]:
    """The file's keys in order: text, or a list of texts.

    Raises ExportError: not readable, not YAML, or a value of another kind.
    """
    content = read_yaml(path, error=ExportError, remedy=f"Write such as:\n{EXAMPLE}").content
    for key, value in content.items():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in (key, *texts)):
            raise ExportError(
                "is no text", file=path, key=str(key), value=value, remedy="Put it in quotation marks."
            )
    return content
