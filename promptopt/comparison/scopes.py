"""Single center, multi center, both: which images a table rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptopt.base.errors import PromptoptError
from promptopt.base.naming import slug


class ComparisonError(PromptoptError, ValueError):
    """Generators cannot be compared as asked; the message says what and the remedy."""


@dataclass(frozen=True)
class Scope:
    """One table: `part` is how `evaluation.report.evaluate.evaluate` calls its images."""

    part: str
    title: str

    @property
    def slug(self) -> str:
        """For file names."""
        return slug(self.title)


@dataclass(frozen=True)
class Scopes:
    """The tables, what each center is called in them (center -> name), and what there is to say about it."""

    tables: tuple[Scope, ...]
    names: dict[str, str]
    notes: tuple[str, ...] = ()


def center_scopes(centers: Sequence[str], *, single: str | None = None) -> Scopes:
    """The tables that a set with these centers allows.

    Without `single`: each center alone, and all of them. With it, as published: that center, the others
    together, and both. A set with one center gives one table, and a note instead of the same column twice.

    Raises ComparisonError for a `single` that is no center of the set.
    """
    known = sorted(set(centers))
    if single is not None and single not in known:
        raise ComparisonError(
            f"--single {single!r}: the set's centers are {', '.join(known)}; name one of them"
        )
    if len(known) == 1:
        return Scopes(
            (Scope("all", f"single center: {known[0]}"),),
            {known[0]: known[0]},
            (
                f"all real images come from one center ({known[0]}), so there is no multi-center table; one "
                "of both would repeat the single center's",
            ),
        )
    if single is None:
        alone = tuple(Scope(f"center={name}", f"single center: {name}") for name in known)
        return Scopes(
            (*alone, Scope("all", f"multi center: {' + '.join(known)}")), {name: name for name in known}
        )
    others = [name for name in known if name != single]
    together = "+".join(others)
    notes: tuple[str, ...] = ()
    title = f"multi center: {' + '.join(others)}"
    if len(others) == 1:
        title = f"other center: {together}"
        notes = (f"beside {single} the set has one center ({together}), so its table is not multi-center",)
    return Scopes(
        (
            Scope(f"center={single}", f"single center: {single}"),
            Scope(f"center={together}", title),
            Scope("all", "both"),
        ),
        {single: single, **dict.fromkeys(others, together)},
        notes,
    )
