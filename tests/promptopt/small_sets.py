"""Finished studies of sets over colored squares, in some seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promptopt.config.study_file import study_from_mapping
from promptopt.study.observer import Observer
from promptopt.study.sets.run import SetResult, run_set_study
from tests.promptopt.fakes import BEST, ColorEncoder, SquareGenerator, category, study, write_squares

OTHER = {
    **category(),
    "name": "other",
    "title": "Other squares",
    "template": "a {|big|small} {green|blue|grey} square {|on black|on white}",
    "texts": ["a green square", "a blue square"],
    "distractors": {"red": ["a red square"]},
}


def two_classes(base: Path, *, observer: Observer | None = None, **changes: Any) -> SetResult:
    """Red squares are big and on black, which the baseline "a square" seldom draws."""
    return _run(
        base, observer, {"classes": {"red": {"category": category()}, "other": {"category": OTHER}}}, changes
    )


def no_room(base: Path, **changes: Any) -> SetResult:
    """One class whose baseline is what the real images show: no set can be nearer."""
    return _run(base, None, {"category": {**category(), "baseline": BEST}}, changes)


def _run(
    base: Path, observer: Observer | None, classes: dict[str, Any], changes: dict[str, Any]
) -> SetResult:
    data = base / "data"
    if not data.exists():
        write_squares(data, each=40)
    content = study(
        base,
        aim="set",
        set={"budget": 48, "images": 4, "prompts": 4, "tolerance": None},
        confirm={"images": 32, "classifier": {"seeds": 2, "steps": 10, "images": 12}},
        search={"proposals_per_step": 3},
    )
    del content["category"]
    return run_set_study(
        study_from_mapping({**content, **classes, **changes}, base=base),
        runs=base / "runs",
        store=base / "store",
        observer=observer,
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
    )
