"""The experts' choices, one JSON line each, in RUN/review/choices.jsonl.

A line is written and synced before the next pair is shown. Nothing is ever rewritten: a choice that was taken
back has a later line that says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from promptopt.base.errors import PromptoptError
from promptopt.base.locks import hold
from promptopt.run.images import Stage

FOLDER = "review"
CHOICES = "choices.jsonl"
Side = Literal["left", "right", "same", "unusable"]


class ReviewError(PromptoptError, ValueError):
    """A review cannot be held or read as asked; the message names file, line and remedy."""


@dataclass(frozen=True)
class Choice:
    """One comparison of two prompts' image sets.

    Attributes:
        number: 0-based, counts the rater's comparisons that stand.
        rater: who chose.
        left, right: labels of the prompts by the side they were shown on.
        choice: the side that was better; "same" for no difference, "unusable" where both sets are of no use.
        stage: which of the run's images were shown.
        images: their places in the seed panel, the same on both sides.
        seed: of the rater's schedule.
        time: when, ISO 8601 in UTC.
        comment: in the rater's words; empty in files of earlier versions.
    """

    number: int
    rater: str
    left: str
    right: str
    choice: Side
    stage: Stage
    images: tuple[int, ...]
    seed: int
    time: str
    comment: str = ""

    @property
    def better(self) -> str | None:
        """The preferred prompt; None where neither was."""
        return getattr(self, self.choice) if self.choice in ("left", "right") else None

    @property
    def worse(self) -> str | None:
        """The other one."""
        return {"left": self.right, "right": self.left}.get(self.choice)


def records_path(run: str | Path) -> Path:
    """Where the choices about a run lie."""
    return Path(run) / FOLDER / CHOICES


def now() -> str:
    """The time as the records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(path: Path, content: Choice | Mapping[str, Any]) -> None:
    """Add one line and wait until it is on the disk; several raters may write at once."""
    line = json.dumps(asdict(content) if isinstance(content, Choice) else dict(content), ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(path.with_name(f".{path.name}.lock"), wait=30), path.open("a+b") as stream:
        stream.seek(0)
        whole = stream.read()
        if not whole.endswith(b"\n"):  # a line that a power cut left unfinished
            stream.truncate(whole.rfind(b"\n") + 1)
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def take_back(path: Path, rater: str, number: int) -> None:
    """Record that a rater's choice no longer stands."""
    append(path, {"undo": number, "rater": rater, "time": now()})


def read_choices(path: str | Path) -> tuple[Choice, ...]:
    """The choices that stand, in order.

    Raises:
        ReviewError: no such file, or a line that is not a choice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReviewError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). "
            "Hold a review first: promptopt review prefer RUN --rater NAME."
        ) from error
    lines = text.split("\n")
    standing: dict[tuple[str, int], Choice] = {}
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break is unfinished
        try:
            content = json.loads(line)
            if "undo" in content:
                del standing[content["rater"], content["undo"]]
                continue
            choice = Choice(**{**content, "images": tuple(content["images"])})
            if choice.choice not in get_args(Side) or choice.left == choice.right:
                raise ValueError(f"choice {choice.choice!r} between {choice.left!r} and {choice.right!r}")
            standing[choice.rater, choice.number] = choice
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReviewError(
                f"{path}, line {number}: not a choice ({type(error).__name__}: {error}). Remove the line, or "
                "put the file back from a copy."
            ) from error
    return tuple(standing.values())
