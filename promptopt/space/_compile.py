"""Syntax tree -> `PromptSpace`: a slot for every choice at the top level, and for every shared variable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from promptopt.space import _parse
from promptopt.space._expand import Expander, Options, Place, Scope, reference, references, substitute
from promptopt.space._space import PromptSpace, Reference, Slot, split_references
from promptopt.space._syntax import Access, Assignment, Choice, Wildcard


def compile_template(
    text: str, wildcards: Mapping[str, Sequence[str]] | None = None, *, source: str = "template"
) -> PromptSpace:
    """Compile a template into a static space of named categorical slots.

    Every `{...}`, `__wildcard__` and `${variable}` at the top level is a slot. The slot of a wildcard or
    variable has its name (`color`; used again: `color_2`), the other slots are `slot1`, `slot2` ... in order.
    What is nested inside is flattened into the slot's options, probabilities multiplied, so that a sampler
    sees one static product. An immediate variable (`${color=!...}`) that is used in several of them is one
    slot, whose choice all of them show.

    Args:
        text: the template.
        wildcards: list of options for each wildcard name; the options may hold template syntax and a weight.
        source: what errors call the text.

    Raises:
        TemplateError: with line, column and remedy: bad syntax, unknown, empty or recursive wildcards and
            variables, a slot of more than 100,000 options.

    >>> space = compile_template("a {2::small|large} polyp{, red|}")
    >>> space.size
    4
    >>> space.render(space.likeliest())
    'a small polyp, red'
    """
    return _Compiler(text, wildcards or {}, source).space()


class _Compiler:
    def __init__(self, text: str, wildcards: Mapping[str, Sequence[str]], source: str) -> None:
        self.text = text
        self.place = Place(text, source)
        self.expander = Expander(wildcards)

    def space(self) -> PromptSpace:
        nodes = _parse.parse(self.text, source=self.place.source)
        assigned = [node for node in nodes if isinstance(node, Assignment)]
        scope = self.expander.scope(assigned, Scope(), self.place)
        pieces: list[str | Choice] = []
        found: list[Options] = []
        for node in nodes:
            if isinstance(node, Assignment):
                continue
            if isinstance(node, str):
                if pieces and isinstance(pieces[-1], str):
                    pieces[-1] += node
                else:
                    pieces.append(node)
            else:
                pieces.append(node)
                found.append(self.expander.node(node, scope, self.place))
        found, shared = self.share(found, scope)
        return self.assemble(pieces, found, shared)

    def share(self, found: list[Options], scope: Scope) -> tuple[list[Options], dict[str, Options]]:
        """Immediate variables put in where they are used once, and those left that are slots of their own."""
        values: dict[str, Options] = {}

        def visit(keys: Iterable[str], chain: tuple[str, ...]) -> None:
            for key in keys:
                if key in chain:
                    loop = " -> ".join((*chain[chain.index(key) :], key))
                    raise self.place.error(
                        f"variable '{key}' contains itself: {loop}",
                        "Remove it from its own value.",
                        scope[key].offset,
                    )
                if key not in values:
                    options = self.expander.immediate(key, scope)
                    visit(references(options), (*chain, key))
                    values[key] = options

        visit([key for options in found for key in references(options)], ())
        shared: dict[str, Options] = {}
        # A variable stands in `values` behind those that its value uses, so users come first in this order.
        for key in reversed(values):
            users = [i for i, options in enumerate(found) if key in references(options)]
            holders = [name for name, options in shared.items() if key in references(options)]
            if len(values[key]) > 1 and len(users) + len(holders) > 1:
                shared[key] = values[key]
                continue
            offset = scope[key].offset
            for i in users:
                found[i] = substitute(found[i], key, values[key], offset, self.place)
            for name in holders:
                shared[name] = substitute(shared[name], key, values[key], offset, self.place)
        return found, shared

    def assemble(
        self, pieces: list[str | Choice], found: list[Options], shared: Mapping[str, Options]
    ) -> PromptSpace:
        choices = [piece for piece in pieces if not isinstance(piece, str)]
        names = _slot_names(choices, [_direct(options, shared) for options in found], shared)
        layout: list[str | Reference] = []
        slots: dict[str, Slot] = {}

        def add_shared(keys: Iterable[str]) -> None:
            for key in keys:
                if key not in slots:
                    add_shared(references(shared[key]))
                    slots[key] = self.slot(key, _tidy(shared[key], left=False, right=False))

        each = iter(zip(found, names, strict=True))
        for index, piece in enumerate(pieces):
            if isinstance(piece, str):
                layout.append(piece)
                continue
            options, name = next(each)
            if _direct(options, shared) is not None:
                add_shared([name])
            elif isinstance(piece, Access) and len(options) == 1 and not references(options):
                layout.append(next(iter(options)))  # a variable that is a plain text: nothing to choose
                continue
            else:
                add_shared(references(options))
                before = pieces[index - 1] if index else " "
                after = pieces[index + 1] if index + 1 < len(pieces) else " "
                tidy = _tidy(
                    options,
                    left=isinstance(before, str) and before[-1:].isspace(),
                    right=isinstance(after, str) and after[:1].isspace(),
                )
                slots[name] = self.slot(name, tidy)
            layout.append(Reference(name))
        return PromptSpace(text=self.text, layout=tuple(layout), slots=tuple(slots.values()))

    def slot(self, name: str, options: Options) -> Slot:
        shown = ["".join(_shown(split_references(option))) for option in options]
        if len(set(shown)) < len(shown):
            twice = next(text for text in shown if shown.count(text) > 1)
            raise self.place.error(
                f"slot '{name}' has an option that reads {twice!r} and one that only looks like it",
                "Write the variable's reference or the literal text, not both.",
                0,
            )
        contents = tuple(split_references(option) for option in options) if references(options) else ()
        return Slot(name, tuple(shown), tuple(options.values()), contents=contents)


def _shown(contents: Iterable[str | Reference]) -> Iterator[str]:
    return (piece if isinstance(piece, str) else f"${{{piece.slot}}}" for piece in contents)


def _direct(options: Options, shared: Mapping[str, Options]) -> str | None:
    """The shared variable that a choice is nothing but, if any."""
    return next((key for key in shared if list(options) == [reference(key)]), None)


def _slot_names(
    choices: Sequence[Choice], direct: Sequence[str | None], shared: Mapping[str, Options]
) -> list[str]:
    wanted = [_own_name(choice) for choice in choices]
    reserved = {name for name in wanted if name is not None} | set(shared)
    names: list[str] = []
    taken = set(shared)
    anonymous = 0
    for own, key in zip(wanted, direct, strict=True):
        if key is not None:
            name = key
        elif own is not None and own not in taken:
            name = own
        elif own is not None:
            number = 2
            while (name := f"{own}_{number}") in reserved or name in taken:
                number += 1
        else:
            anonymous += 1
            while (name := f"slot{anonymous}") in reserved or name in taken:
                anonymous += 1
        taken.add(name)
        names.append(name)
    return names


def _own_name(choice: Choice) -> str | None:
    if isinstance(choice, Wildcard):
        return re.sub(r"[*?\[\]]+", "", choice.label).strip("/_- ") or choice.label
    return choice.name if isinstance(choice, Access) else None


def _tidy(options: Options, *, left: bool, right: bool) -> Options:
    """Options with runs of white space made one space, and without those at a border that has one anyway."""
    result: Options = {}
    for option, probability in options.items():
        text = re.sub(r"\s+", " ", option)
        text = text.lstrip() if left else text
        text = text.rstrip() if right else text
        result[text] = result.get(text, 0.0) + probability
    return result
