"""The note beside a published study: what it is, whose, and what came of it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from promptopt.base.reading import one_line
from promptopt.web.dashboard.notes import escaped

if TYPE_CHECKING:
    from promptopt.run.snapshot import StudyCopy

ARTIFACT = "artifacts:"
"""optuna.artifacts' key of a trial's system attributes; the artifact's name follows."""

_WRITTEN = "note"
"""A study's attribute: checksum of the note as publishing wrote it; another text is a person's."""

_MOST = 8  # contact sheets that a note links to


def notes_installed() -> bool:
    """Whether optuna-dashboard is there, whose notes they are."""
    return find_spec("optuna_dashboard") is not None


def sheet_name(run: str, label: str, number: int) -> str:
    """The artifact that is the contact sheet of a prompt, the same whoever writes it.

    Args:
        run: its uuid.
        label: of the class, or "".
        number: of the trial.
    """
    return str(uuid.uuid5(uuid.UUID(run), f"{label}/{number}"))


def sheet_links(
    study_id: int, copy: StudyCopy, there: Sequence[tuple[int, Mapping[str, Any]]], about: Mapping[str, str]
) -> list[str]:
    """Markdown links to contact sheets: of a set's prompts with their weights, or of a search's best ones.

    Those that the database knows of, whoever wrote them; none while a set is searched.

    Args:
        there: `promptopt.publishing.copying.Copied.there`.
    """
    links = []
    for said, trial in _chosen(copy, of_set=bool(about["class"])):
        name = sheet_name(about["uuid"], about["class"], trial.number)
        trial_id, attributes = there[trial.number]
        if ARTIFACT + name in attributes:
            prompt = escaped(one_line(str(trial.user_attrs.get("prompt", f"prompt {trial.number}"))))
            links.append(f"[{prompt}](/artifacts/{study_id}/{trial_id}/{name}), {said}")
    return links


def _chosen(copy: StudyCopy, *, of_set: bool) -> Iterator[tuple[str, Any]]:
    """(weight or score, trial) of those that matter most."""
    if of_set:
        weighed = [(trial.user_attrs.get("weight", 0.0), trial) for trial in copy.trials]
        best = sorted((pair for pair in weighed if pair[0] > 0), key=lambda pair: -pair[0])
        yield from ((f"{weight:.0%}", trial) for weight, trial in best[:_MOST])
        return
    down = copy.directions[0].name == "MINIMIZE"
    scored = [(trial.values[0], trial) for trial in copy.trials if trial.state.name == "COMPLETE"]
    best = sorted(scored, key=lambda pair: pair[0] if down else -pair[0])
    yield from ((f"{value:+.2f}", trial) for value, trial in best[:_MOST])


def note_text(about: Mapping[str, str], sheets: Sequence[str] = ()) -> str:
    """Markdown; `sheets` are the links to contact sheets.

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
    if sheets:
        which = "the set's prompts, with their weights" if about.get("class") else "the search's best prompts"
        lines += ["", f"Images of {which}:", "", *(f"- {link}" for link in sheets)]
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
