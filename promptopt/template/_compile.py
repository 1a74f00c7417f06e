"""Syntax tree -> `PromptSpace`: wildcards resolved, nested choices flattened into their slot's options."""

import difflib
import re
from collections.abc import Mapping, Sequence

from promptopt.template import _parse
from promptopt.template._errors import TemplateError
from promptopt.template._parse import Variant, Wildcard
from promptopt.template._space import PromptSpace, Slot

MAX_OPTIONS = 100_000

# Option text -> probability, in the order written. Equal texts add up: `{a|a|b}` is `{2::a|b}`.
_Options = dict[str, float]


def compile_template(text: str, wildcards: Mapping[str, Sequence[str]] | None = None) -> PromptSpace:
    """Compile a template into a static space of named categorical slots.

    Every `{...}` and every `__wildcard__` at the top level is a slot. A wildcard's slot has its name
    (`color`; used again: `color_2`), the other slots are `slot1`, `slot2` ... in order. What is nested
    inside is flattened into the slot's options, probabilities multiplied, so that a sampler sees one
    static product.

    Args:
        text: the template.
        wildcards: list of options for each wildcard name; the options may hold template syntax and a weight.

    Raises:
        TemplateError: with line, column and remedy: bad syntax, unknown, empty or recursive wildcards, a slot
            of more than 100,000 options.
    """
    return _Compiler(text, wildcards or {}).space()


class _Compiler:
    def __init__(self, text: str, wildcards: Mapping[str, Sequence[str]]) -> None:
        self.text = text
        self.wildcards = wildcards
        self.resolved: dict[str, _Options] = {}

    def space(self) -> PromptSpace:
        literals = [""]
        found: list[tuple[Variant | Wildcard, _Options]] = []
        for node in _parse.parse(self.text):
            if isinstance(node, str):
                literals[-1] = node
            else:
                found.append((node, self.node(node, self.text, "template", ())))
                literals.append("")
        names = _slot_names([node for node, _ in found])
        slots = []
        for index, ((_, options), name) in enumerate(zip(found, names, strict=True)):
            tidy = _tidy(
                options,
                left=_ends(literals[index]) or (index == 0 and not literals[0]),
                right=_starts(literals[index + 1]) or (index == len(found) - 1 and not literals[-1]),
            )
            slots.append(Slot(name, tuple(tidy), tuple(tidy.values())))
        return PromptSpace(text=self.text, literals=tuple(literals), slots=tuple(slots))

    def node(self, node: Variant | Wildcard, text: str, source: str, chain: tuple[str, ...]) -> _Options:
        if isinstance(node, Wildcard):
            return self.wildcard(node, text, source, chain)
        weighted = [
            (weight, self.product(sequence, node.offset, text, source, chain))
            for weight, sequence in node.options
        ]
        return self.union(weighted, node.offset, text, source)

    def product(
        self, sequence: _parse.Sequence, offset: int, text: str, source: str, chain: tuple[str, ...]
    ) -> _Options:
        """Every text that a sequence can become."""
        result: _Options = {"": 1.0}
        for node in sequence:
            options = {node: 1.0} if isinstance(node, str) else self.node(node, text, source, chain)
            self.limit(len(result) * len(options), offset, text, source)
            longer: _Options = {}
            for head, p in result.items():
                for tail, q in options.items():
                    longer[head + tail] = longer.get(head + tail, 0.0) + p * q
            result = longer
        return result

    def union(self, weighted: list[tuple[float, _Options]], offset: int, text: str, source: str) -> _Options:
        """One of several alternatives, each with its weight; the result sums to 1."""
        # Dividing by the largest first keeps the sum finite whatever the weights.
        largest = max(weight for weight, _ in weighted)
        total = sum(weight / largest for weight, _ in weighted)
        result: _Options = {}
        for weight, options in weighted:
            for option, p in options.items():
                result[option] = result.get(option, 0.0) + p * (weight / largest) / total
            self.limit(len(result), offset, text, source)
        return result

    def limit(self, count: int, offset: int, text: str, source: str) -> None:
        if count > MAX_OPTIONS:
            raise TemplateError(
                f"one slot of more than {MAX_OPTIONS:,} options",
                "Move nested choices to the top level, where each is a slot of its own.",
                text=text,
                offset=offset,
                source=source,
            )

    def wildcard(self, node: Wildcard, text: str, source: str, chain: tuple[str, ...]) -> _Options:
        def error(problem: str, remedy: str) -> TemplateError:
            return TemplateError(problem, remedy, text=text, offset=node.offset, source=source)

        name = node.name
        if name not in self.wildcards:
            raise error(f"unknown wildcard '{name}'", self.hint(name))
        if name in chain:
            loop = " -> ".join((*chain[chain.index(name) :], name))
            raise error(f"wildcard '{name}' contains itself: {loop}", "Remove it from its own options.")
        if len(chain) >= _parse.MAX_DEPTH:
            raise error(f"wildcards nested more than {_parse.MAX_DEPTH} deep", "Merge some of them.")
        if name in self.resolved:
            return self.resolved[name]
        options = self.wildcards[name]
        if isinstance(options, str) or not all(isinstance(option, str) for option in options):
            raise error(f"wildcard '{name}' is no list of texts", "Give a list; quote numbers, yes and no.")
        if not options:
            raise error(f"wildcard '{name}' has no options", "Give it at least one, or leave it out.")
        weighted = []
        for number, option in enumerate(options, start=1):
            where = f"wildcard '{name}', option {number}"
            weight, sequence = _parse.parse_option(option, source=where)
            weighted.append((weight, self.product(sequence, 0, option, where, (*chain, name))))
        self.resolved[name] = self.union(weighted, node.offset, text, source)
        return self.resolved[name]

    def hint(self, name: str) -> str:
        if not self.wildcards:
            return "No wildcards are defined here."
        close = difflib.get_close_matches(name, list(self.wildcards), n=1, cutoff=0.5)
        asked = f"Did you mean '{close[0]}'? " if close else ""
        return f"{asked}Known wildcards: {', '.join(sorted(self.wildcards))}."


def _slot_names(nodes: Sequence[Variant | Wildcard]) -> list[str]:
    reserved = {node.name for node in nodes if isinstance(node, Wildcard)}
    names: list[str] = []
    anonymous = 0
    for node in nodes:
        if isinstance(node, Wildcard) and node.name not in names:
            names.append(node.name)
        elif isinstance(node, Wildcard):
            number = 2
            while (name := f"{node.name}_{number}") in reserved or name in names:
                number += 1
            names.append(name)
        else:
            anonymous += 1
            while (name := f"slot{anonymous}") in reserved or name in names:
                anonymous += 1
            names.append(name)
    return names


def _tidy(options: _Options, *, left: bool, right: bool) -> _Options:
    """Options with runs of white space made one space, and without those at a border that has one anyway."""
    result: _Options = {}
    for option, probability in options.items():
        text = re.sub(r"\s+", " ", option)
        text = text.lstrip() if left else text
        text = text.rstrip() if right else text
        result[text] = result.get(text, 0.0) + probability
    return result


def _ends(literal: str) -> bool:
    return literal[-1:].isspace()


def _starts(literal: str) -> bool:
    return literal[:1].isspace()
