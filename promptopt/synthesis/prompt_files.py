"""Lists of prompts to make images of: a file of your own, or what a study found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.space.prompt_lines import (
    PromptFile,
    PromptFileError,
    PromptLine,
    checked_weight,
    read_prompt_lines,
)

if TYPE_CHECKING:
    from promptopt.run.prompt_sets import SetList
    from promptopt.space import Candidate

_SAMPLING = ("negative_prompt", "steps", "guidance", "scheduler")


@dataclass(frozen=True, kw_only=True)
class SetDraw:
    """What to take of a study of sets.

    Attributes:
        label: of the class; None for the only one.
        method: "set", "learned", "baseline", "random" or "single".
        total: prompts to draw, for "learned" and "random".
    """

    label: str | None = None
    method: str = "set"
    total: int | None = None
    seed: int = 0


def read_prompt_file(path: str | Path, *, sets: SetDraw | None = None) -> PromptFile:
    """Read a list of prompts; the ending of its name says how.

    - ``.csv``, ``.tsv``: a header with a column ``Prompt`` (``prompt``), fields separated by ``;`` (the
      challenge's own), ``,`` or tabs; further columns may be ``negative_prompt`` and ``weight`` or ``Count``.
    - ``.jsonl``: objects with ``prompt`` and, optionally, ``negative_prompt`` and ``weight``.
    - ``.json``, or a run folder: what a study writes as ``prompts.json``.
    - anything else (``.txt``): one prompt a line.

    Args:
        sets: what to take of a study of sets; default: the set of its only class.

    Raises:
        PromptFileError: no such file, not UTF-8, no prompt in it, or a line that does not fit; a study of
            sets without the class or method asked for.
        promptopt.config.study_file.StudyError: a ``.json`` that is no prompts.json.
    """
    path = Path(path)
    if path.is_dir():
        from promptopt.run.folder import PROMPTS

        path = path / PROMPTS
    if path.suffix.lower() == ".json":
        return _of_study(path, sets)
    if sets is not None:
        raise PromptFileError(
            f"{path}: only a run of a study of sets has classes and methods; leave them out"
        )
    return read_prompt_lines(path)


def _of_study(path: Path, draw: SetDraw | None) -> PromptFile:
    from promptopt.run.finished import read_confirmed
    from promptopt.run.prompt_sets import SetList

    study = read_confirmed(path)
    if isinstance(study, SetList):
        shares = _of_class(path, study, draw or SetDraw())
    elif draw is not None:
        raise PromptFileError(f"{path}: a study with aim: single has no classes and methods; leave them out")
    else:
        shares = [(entry.candidate, entry.weight) for entry in study.prompts]
    if not shares:
        raise PromptFileError(f"{path}: the study confirmed no prompt; give another list")
    for candidate, _ in shares:
        if candidate.generation_parameters:
            raise PromptFileError(
                f"{path}: {candidate.prompt!r} has generation parameters of its own "
                f"({dict(candidate.generation_parameters)}), and here all prompts share theirs; write the "
                "prompts to a .csv, and give the parameters as options"
            )
    used = study.settings.get("generator", {})
    return PromptFile(
        path,
        tuple(
            PromptLine(
                text=candidate.prompt,
                number=number,
                line=number,
                negative=candidate.negative_prompt,
                weight=checked_weight(weight, str(path)),
            )
            for number, (candidate, weight) in enumerate(shares, start=1)
        ),
        sampling={key: used[key] for key in _SAMPLING if key in used},
        generator=study.generator.fingerprint,
    )


def _of_class(path: Path, sets: SetList, draw: SetDraw) -> list[tuple[Candidate, float]]:
    """Prompts with weights; drawn prompts one a line, each with seeds of its own."""
    labels = [entry.label for entry in sets.classes]
    if draw.label is None and len(labels) > 1:
        raise PromptFileError(f"{path}: a study of {', '.join(labels)}; choose one of them with --class")
    entry = sets.of(draw.label or labels[0])
    if draw.method == "set":
        return list(entry.set.weights.items())
    if draw.method in ("baseline", "single"):
        return [(one, 1.0) for one in entry.draw(draw.method, 1, seed=draw.seed)]
    if draw.total is None:
        raise PromptFileError(
            f"{path}: --method {draw.method} draws a prompt for each image; say how many (--total)"
        )
    space = None
    if draw.method == "random":
        from promptopt.config.study_file import load_study
        from promptopt.run.folder import STUDY
        from promptopt.space.of_category import class_studies, compile_space, open_category

        config = class_studies(load_study(path.parent / STUDY))[entry.label]
        space = compile_space(open_category(config), config.source)
    return [(one, 1.0) for one in entry.draw(draw.method, draw.total, seed=draw.seed, space=space)]
