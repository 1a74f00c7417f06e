"""The error that all errors of the project are."""

from __future__ import annotations

import os


class PromptoptError(Exception):
    """Something that a user can put right; ``str()`` of it is a sentence for them, without a traceback.

    Args:
        problem: what is wrong, for a person.
        file: the file or folder it is wrong in.
        line: of the file, from 1.
        key: the key, option or column in it.
        value: what stands there, shown as Python writes it.
        remedy: what would be right, or what to do.

    Example:
        >>> print(PromptoptError("is no number", file="study.yaml", key="seed", value="x", remedy="Give 0."))
        study.yaml: seed: 'x' is no number. Give 0.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | os.PathLike[str] | None = None,
        line: int | None = None,
        key: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else os.fspath(file)
        self.line = line
        self.key = key
        self.value = value
        self.remedy = remedy
        shown = "" if value is None else f"{value!r} "
        place = self.file if line is None else f"{self.file}, line {line}"
        text = ": ".join([*(part for part in (place, key) if part), f"{shown}{problem}"])
        end = "" if text.endswith((".", "?", "!", ":", "\n")) else "."
        super().__init__(text if remedy is None else f"{text}{end} {remedy}")


class ArgumentError(PromptoptError, ValueError):
    """A function was given a value that it does not take."""
