"""The note beside a published study: what it is, whose, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from promptopt.web.dashboard.notes import escaped

_WRITTEN = "note"
"""A study's attribute: checksum of the note as publishing wrote it; another text is a person's."""


def notes_installed() -> bool:
    """Whether optuna-dashboard is there, whose notes they are."""
    return find_spec("optuna_dashboard") is not None


def note_text(about: Mapping[str, str]) -> str:
    """Markdown.

    Example:
        >>> print(note_text({"user": "anna", "run": "first", "class": "polyp", "state": "finished"}))
        # first, polyp
        <BLANKLINE>
        Run by anna; finished.
        <BLANKLINE>
        Every trial is a prompt. Its values are optimistic: only what fresh images confirm is a result.
        This is a copy: what is changed here does not touch the run.
    """
    title = ", ".join(escaped(about[key]) for key in ("run", "class") if about.get(key))
    lines = [f"# {title}", "", f"Run by {escaped(about['user'])}; {about['state']}."]
    if result := about.get("result"):
        lines += ["", escaped(result)]
    lines += [
        "",
        "Every trial is a prompt. Its values are optimistic: only what fresh images confirm is a result.",
        "This is a copy: what is changed here does not touch the run.",
    ]
    return "\n".join(lines)


def write_note(storage: Any, study_id: int, text: str) -> bool:
    """Write the note where there is none, or one that nobody has changed; whether it was written."""
    from optuna_dashboard import get_note, save_note

    # the two ask a trial for these alone, and a study for the class; None is the study's own note
    study = SimpleNamespace(storage=storage, study=SimpleNamespace(_study_id=study_id), _trial_id=None)
    there = get_note(study)
    if there == text or (there and _sum(there) != storage.get_study_user_attrs(study_id).get(_WRITTEN)):
        return False
    storage.set_study_user_attr(study_id, _WRITTEN, _sum(text))
    save_note(study, text)
    return True


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
