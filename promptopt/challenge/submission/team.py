"""Who submits: a YAML file of the participant's own."""

from __future__ import annotations

from pathlib import Path

import yaml

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
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{path}: cannot be read ({reason}). Write such as:\n{EXAMPLE}") from error
    except yaml.YAMLError as error:
        raise ExportError(f"{path}: not YAML ({error}). Write such as:\n{EXAMPLE}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ExportError(f"{path}: holds no mapping of keys. Write such as:\n{EXAMPLE}")
    for key, value in content.items():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise ExportError(f"{path}: {key}: {value!r} is no text; put it in quotation marks")
    return content
