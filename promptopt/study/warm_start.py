"""What earlier studies ended with, as prompts to begin with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.run.folder import PROMPTS
from promptopt.run.prompt_sets import SETS, read_sets
from promptopt.run.snapshot import read_rows, read_studies
from promptopt.run.trials import latest
from promptopt.space import Candidate, PromptSpace

_MOST = 4  # prompts taken over from an earlier study of single prompts

Choice = Mapping[str, str]


def earlier_winners(config: StudyConfig, space: PromptSpace, *, label: str) -> tuple[Choice, ...]:
    """The prompts of `search.warm_start` that this space holds too, the best of each study first.

    Of a study of single prompts the four best of its search, of a finished study of sets the set of the class
    `label`, the largest weights first.

    Raises:
        StudyError: no run folder, an unfinished study of sets, one whose prompts have other slots than this
            space, or no study with this class.
    """
    where = f"{config.source}: search.warm_start"
    found: dict[str, Choice] = {}
    without: list[str] = []
    for text in config.search.warm_start:
        shown = config.as_written(text)
        try:
            of_sets = _searched_sets(text)
            choices = _of_set(text, label) if of_sets else list(_of_singles(text))
        except StudyError as error:
            raise StudyError(f"{where}: {error}") from error
        if isinstance(choices, str):
            without.append(f"{shown} has {choices}")
            continue
        slots = {slot.name: slot.options for slot in space.slots}
        fitting = [
            {name: choice[name] for name in slots}
            for choice in choices
            if all(choice.get(name) in options for name, options in slots.items())
        ]
        if not fitting:
            named = ", ".join(dict.fromkeys(name for choice in choices for name in choice))
            raise StudyError(
                f"{where}: no prompt of {shown} fits the template of {label!r}, whose slots are "
                f"{', '.join(slots) or 'none'}; theirs are {named or 'none'}. Remove it from the list, or "
                "use its category."
            )
        for known in fitting if of_sets else fitting[:_MOST]:
            found.setdefault(space.candidate(known).normalized_key, known)
    if without and not found:
        raise StudyError(
            f"{where}: none of the studies has a class {label!r}: {'; '.join(without)}. Name the class as it "
            "is named there, or remove them from the list."
        )
    return tuple(found.values())


def _searched_sets(run: str) -> bool:
    """Whether an earlier run searched sets; such a run has to be finished, so its prompts.json says it."""
    try:
        content = json.loads((Path(run) / PROMPTS).read_bytes())
    except (OSError, ValueError):
        return any(study.of_set for study in read_studies(run))
    return isinstance(content, dict) and content.get("format") == SETS


def _of_singles(run: str) -> Iterator[Choice]:
    for row in sorted(latest(read_rows(run)), key=lambda row: (-row.value, row.number)):
        yield row.choice


def _of_set(run: str, label: str) -> list[Choice] | str:
    """The slots of a class's set; of a run without the class, the names of those that it has."""
    path = Path(run) / PROMPTS
    if not path.is_file():
        raise StudyError(f"{run}: this study of sets is not finished. Finish it first.")
    sets = read_sets(path)
    labels = [entry.label for entry in sets.classes]
    if label not in labels:
        return ", ".join(labels)
    slots = {
        Candidate.from_json(trial.user_attrs["candidate"]): dict(trial.params)
        for study in read_studies(run)
        if study.name == label
        for trial in study.trials
        if "candidate" in trial.user_attrs
    }
    # one without slots is outside the template, such as the baseline, which every search begins with
    return [slots[one] for one in sets.of(label).set.weights if slots.get(one)]
