"""The syntax tree of a template. Offsets count characters of the text that the node stands in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wildcard:
    """`__name__`, or `__name(variable=value)__`; the name may hold variables and braces."""

    name: Sequence
    parameters: tuple[Assignment, ...]
    offset: int

    @property
    def label(self) -> str:
        """The name as a text, variables by their own names."""
        parts = (part if isinstance(part, str) else getattr(part, "name", "") for part in self.name)
        return "".join(part for part in parts if isinstance(part, str))


@dataclass(frozen=True)
class Several:
    """`0-2$$ and $$` at the head of a brace: how many options, and what goes between them.

    `high` is None for "as many as there are".
    """

    low: int
    high: int | None
    separator: str
    offset: int


@dataclass(frozen=True)
class Variant:
    """`{...}`: weighted options, one of them or several at a time."""

    options: tuple[tuple[float, Sequence], ...]
    several: Several | None
    offset: int


@dataclass(frozen=True)
class Assignment:
    """`${name=value}`; `immediate` with `=!`, `keep` (an outer value) with `?=`."""

    name: str
    value: Sequence
    immediate: bool
    keep: bool
    offset: int


@dataclass(frozen=True)
class Access:
    """`${name}` or `${name:default}`."""

    name: str
    default: Sequence | None
    offset: int


Choice = Wildcard | Variant | Access
Node = str | Choice | Assignment
Sequence = tuple[Node, ...]
