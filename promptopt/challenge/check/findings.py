"""What a check found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One line: the file (relative to the folder), what is wrong with it, what to do."""

    level: Level
    file: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level.capitalize()}: {self.file}: {self.problem}. {self.remedy}"


@dataclass
class Findings:
    """All findings of a check, in the order they were made; errors first when they are read."""

    made: list[Finding] = field(default_factory=list)

    def error(self, file: object, problem: str, remedy: str) -> None:
        """Something that must not be submitted like this."""
        self.made.append(Finding("error", str(file), problem, remedy))

    def warning(self, file: object, problem: str, remedy: str) -> None:
        """Something to look at."""
        self.made.append(Finding("warning", str(file), problem, remedy))

    def __iter__(self) -> Iterator[Finding]:
        return iter(sorted(self.made, key=lambda finding: finding.level != "error"))

    @property
    def errors(self) -> int:
        """How many."""
        return sum(finding.level == "error" for finding in self.made)

    @property
    def warnings(self) -> int:
        """How many."""
        return len(self.made) - self.errors
