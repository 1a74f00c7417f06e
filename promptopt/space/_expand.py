"""Syntax tree -> every text that a node can become, with its probability."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as ListLike
from dataclasses import dataclass

from promptopt.space import _parse, _several
from promptopt.space._errors import TemplateError
from promptopt.space._syntax import Access, Assignment, Choice, Sequence, Several, Variant, Wildcard

MAX_OPTIONS = 100_000

# Text -> probability, in the order written. Equal texts add up: `{a|a|b}` is `{2::a|b}`.
# A text may hold references to immediate variables, see `reference`.
Options = dict[str, float]
Weighted = list[tuple[float, Options]]


def reference(name: str) -> str:
    """How a text refers to the value of an immediate variable. Templates hold no NUL."""
    return f"\0{name}\0"


def references(options: Iterable[str]) -> list[str]:
    """The immediate variables that some text refers to, in order of appearance."""
    return list(dict.fromkeys(name for option in options for name in option.split("\0")[1::2]))


@dataclass(frozen=True, eq=False)
class Place:
    """Where one is while expanding: the text that offsets count in, and the wildcards and variables open."""

    text: str
    source: str
    chain: tuple[str, ...] = ()

    def error(self, problem: str, remedy: str, offset: int) -> TemplateError:
        """A fault at `offset` of this text."""
        return TemplateError(problem, remedy, text=self.text, offset=offset, source=self.source)

    def within(self, name: str, *, text: str, source: str) -> Place:
        """One level deeper: inside of what `name` stands for."""
        return Place(text, source, (*self.chain, name))


@dataclass(frozen=True, eq=False)
class Variable:
    """A value in force, set at `offset` of `place`; `fixed` when all its uses show the same choice."""

    value: Sequence
    place: Place
    offset: int
    fixed: bool


class Scope(dict[str, Variable]):
    """Variables by name. Scopes are compared by identity: one is made for every set of assignments."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Expander:
    """Expands nodes; wildcards are expanded once a scope."""

    def __init__(self, wildcards: Mapping[str, ListLike[str]]) -> None:
        self.wildcards = wildcards
        self.entries: dict[tuple[str, Scope], Weighted] = {}
        self.used: set[Variable] = set()

    def node(self, node: Choice, scope: Scope, place: Place) -> Options:
        """Every text that a choice can become; probabilities sum to 1."""
        if isinstance(node, Wildcard):
            return self.union(self.wildcard(node, scope, place), node.offset, place)
        if isinstance(node, Access):
            return self.access(node, scope, place)
        weighted = [
            (weight, self.product(sequence, scope, node.offset, place)) for weight, sequence in node.options
        ]
        if node.several is not None:
            if len(node.options) == 1 and isinstance(only := _only(node.options[0][1]), Wildcard):
                if len(self.names(only, scope, place)) > 1:
                    raise place.error(
                        "several options of a wildcard whose name is itself a choice",
                        "Give the name without choices, or take one option at a time.",
                        only.offset,
                    )
                weighted = self.wildcard(only, scope, place)
            return self.several(weighted, node.several, place)
        return self.union(weighted, node.offset, place)

    def product(self, sequence: Sequence, scope: Scope, offset: int, place: Place) -> Options:
        """Every text that a sequence can become. Assignments in it hold for all of it."""
        assigned = [node for node in sequence if isinstance(node, Assignment)]
        if assigned:
            scope = self.scope(assigned, scope, place)
            for one in assigned:
                if scope[one.name].fixed and one.immediate:
                    raise place.error(
                        f"variable '{one.name}' is fixed with '=!' inside of a wildcard's option",
                        "Set it at the top level of the template, or without the '!'.",
                        one.offset,
                    )
        result: Options = {"": 1.0}
        for node in sequence:
            if isinstance(node, Assignment):
                continue
            options = {node: 1.0} if isinstance(node, str) else self.node(node, scope, place)
            limit(len(result) * len(options), offset, place)
            longer: Options = {}
            for head, p in result.items():
                for tail, q in options.items():
                    longer[head + tail] = longer.get(head + tail, 0.0) + p * q
            result = longer
        return result

    def union(self, weighted: Weighted, offset: int, place: Place) -> Options:
        """One of several alternatives, each with its weight; the result sums to 1."""
        # Dividing by the largest first keeps the sum finite whatever the weights.
        largest = max(weight for weight, _ in weighted)
        total = sum(weight / largest for weight, _ in weighted)
        result: Options = {}
        for weight, options in weighted:
            for option, p in options.items():
                result[option] = result.get(option, 0.0) + p * (weight / largest) / total
            limit(len(result), offset, place)
        return result

    def several(self, weighted: Weighted, wanted: Several, place: Place) -> Options:
        """`wanted` of the alternatives at a time."""
        high = len(weighted) if wanted.high is None else wanted.high
        if max(wanted.low, high) > len(weighted):
            raise place.error(
                f"asks for {max(wanted.low, high)} options, and there are only {len(weighted)}",
                f"Ask for at most {len(weighted)}, or add options.",
                wanted.offset,
            )
        weights = [weight for weight, _ in weighted]
        limit(
            _several.count([len(options) for _, options in weighted], wanted.low, high), wanted.offset, place
        )
        if _several.steps(weights, high) > MAX_OPTIONS:
            raise place.error(
                f"weights on {len(weighted)} options of which up to {high} are taken at a time: "
                f"more than {MAX_OPTIONS:,} ways",
                "Leave out the weights, or take fewer at a time.",
                wanted.offset,
            )
        result = _several.combine(weighted, low=wanted.low, high=high, separator=wanted.separator)
        if not result:
            raise place.error(
                f"there are no {wanted.low} different options", "Make them differ.", wanted.offset
            )
        return result

    def wildcard(self, node: Wildcard, scope: Scope, place: Place) -> Weighted:
        """The options of a wildcard, of all that match a pattern, or of all that its name can become."""
        names = self.names(node, scope, place)
        inner = self.scope(node.parameters, scope, place) if node.parameters else scope
        found: Weighted = []
        for name, p in names.items():
            entries = self.matching(name, node, inner, place)
            total = sum(weight for weight, _ in entries) if len(names) > 1 else 1.0
            found += [(p * weight / total, options) for weight, options in entries]
        for one in node.parameters:
            if inner[one.name] not in self.used:
                raise place.error(
                    f"wildcard '{node.label}' uses no variable '{one.name}'",
                    f"Take the parameter out, or write ${{{one.name}}} in the wildcard's options.",
                    one.offset,
                )
        return found

    def names(self, node: Wildcard, scope: Scope, place: Place) -> Options:
        """Every name that a wildcard's name can become."""
        names: Options = {}
        for name, p in self.product(node.name, scope, node.offset, place).items():
            names[name.strip()] = names.get(name.strip(), 0.0) + p
        if shared := references(names):
            raise place.error(
                f"a wildcard's name holds '{shared[0]}', which is chosen once ('=!'), so that one slot's "
                "options would depend on another slot",
                "Set the variable without the '!', or give each wildcard its own option in braces.",
                node.offset,
            )
        return names

    def matching(self, name: str, node: Wildcard, scope: Scope, place: Place) -> Weighted:
        """The options of one name, which may be a pattern, each expanded."""
        if name in self.wildcards or not _is_pattern(name):
            return self.one_wildcard(name, node, scope, place)
        names = [known for known in self.wildcards if fnmatch.fnmatchcase(known, name)]
        if not names:
            known = ", ".join(sorted(self.wildcards)) or "none"
            raise place.error(f"no wildcard matches '{name}'", f"Known wildcards: {known}.", node.offset)
        return [entry for one in names for entry in self.one_wildcard(one, node, scope, place)]

    def one_wildcard(self, name: str, node: Wildcard, scope: Scope, place: Place) -> Weighted:
        def error(problem: str, remedy: str) -> TemplateError:
            return place.error(problem, remedy, node.offset)

        if name not in self.wildcards:
            raise error(f"unknown wildcard '{name}'", self.hint(name))
        if name in place.chain:
            loop = " -> ".join((*place.chain[place.chain.index(name) :], name))
            raise error(f"wildcard '{name}' contains itself: {loop}", "Remove it from its own options.")
        _check_chain(place, node.offset)
        if (name, scope) in self.entries:
            return self.entries[name, scope]
        options = self.wildcards[name]
        if isinstance(options, str) or not all(isinstance(option, str) for option in options):
            raise error(f"wildcard '{name}' is no list of texts", "Give a list; quote numbers, yes and no.")
        if not options:
            raise error(f"wildcard '{name}' has no options", "Give it at least one, or leave it out.")
        weighted: Weighted = []
        for number, option in enumerate(options, start=1):
            inside = place.within(name, text=option, source=f"wildcard '{name}', option {number}")
            weight, sequence = _parse.parse_option(option, source=inside.source)
            weighted.append((weight, self.product(sequence, scope, 0, inside)))
        self.entries[name, scope] = weighted
        return weighted

    def hint(self, name: str) -> str:
        if not self.wildcards:
            return "No wildcards are defined here."
        close = difflib.get_close_matches(name, list(self.wildcards), n=1, cutoff=0.5)
        asked = f"Did you mean '{close[0]}'? " if close else ""
        return f"{asked}Known wildcards: {', '.join(sorted(self.wildcards))}."

    def scope(self, assigned: Iterable[Assignment], outer: Scope, place: Place) -> Scope:
        """`outer` with the assignments of one sequence, all in force everywhere in it."""
        scope = Scope(outer)
        here: set[str] = set()
        for node in assigned:
            if node.name in here:
                raise place.error(
                    f"variable '{node.name}' is set twice", "Set it once; it holds everywhere.", node.offset
                )
            here.add(node.name)
            if node.keep and node.name in outer:
                continue
            choice = any(not isinstance(part, str) for part in node.value)
            scope[node.name] = Variable(node.value, place, node.offset, fixed=node.immediate and choice)
        return scope

    def access(self, node: Access, scope: Scope, place: Place) -> Options:
        """A deferred variable anew at every use; an immediate one as a reference."""
        variable = scope.get(node.name)
        if variable is not None:
            self.used.add(variable)
        if variable is None:
            if node.default is None:
                raise place.error(
                    f"variable '{node.name}' is not set", self.variable_hint(node.name, scope), node.offset
                )
            return self.product(node.default, scope, node.offset, place)
        if variable.fixed:
            return {reference(node.name): 1.0}
        return self.value(node.name, scope, place, node.offset)

    def immediate(self, name: str, scope: Scope) -> Options:
        """The values of an immediate variable."""
        variable = scope[name]
        return self.value(name, scope, variable.place, variable.offset)

    def value(self, name: str, scope: Scope, place: Place, offset: int) -> Options:
        link = f"${{{name}}}"
        if link in place.chain:
            loop = " -> ".join((*place.chain[place.chain.index(link) :], link))
            raise place.error(
                f"variable '{name}' contains itself: {loop}", "Remove it from its own value.", offset
            )
        _check_chain(place, offset)
        variable = scope[name]
        inside = place.within(link, text=variable.place.text, source=variable.place.source)
        return self.product(variable.value, scope, variable.offset, inside)

    def variable_hint(self, name: str, scope: Scope) -> str:
        close = difflib.get_close_matches(name, list(scope), n=1, cutoff=0.5)
        if close:
            return f"Did you mean '{close[0]}'? Variables set here: {', '.join(sorted(scope))}."
        if name in self.wildcards:
            return f"There is a wildcard of that name: __{name}__."
        return f"Set it, ${{{name}=value}}, or give a default, ${{{name}:default}}."


def substitute(options: Options, name: str, values: Options, offset: int, place: Place) -> Options:
    """References to one immediate variable replaced by its value, the same one throughout a text."""
    mark = reference(name)
    held = sum(mark in option for option in options)
    limit(len(options) - held + held * len(values), offset, place)
    result: Options = {}
    for option, p in options.items():
        if mark not in option:
            result[option] = result.get(option, 0.0) + p
            continue
        for value, q in values.items():
            text = option.replace(mark, value)
            result[text] = result.get(text, 0.0) + p * q
    return result


def limit(count: int, offset: int, place: Place) -> None:
    """Refuses a slot with more options than a search can use."""
    if count > MAX_OPTIONS:
        raise place.error(
            f"one slot of more than {MAX_OPTIONS:,} options",
            "Move nested choices to the top level, where each is a slot of its own.",
            offset,
        )


def _check_chain(place: Place, offset: int) -> None:
    if len(place.chain) >= _parse.MAX_DEPTH:
        raise place.error(
            f"wildcards nested more than {_parse.MAX_DEPTH} deep", "Merge some of them.", offset
        )


def _only(sequence: Sequence) -> Variant | Wildcard | Access | Assignment | str | None:
    """The one node of a sequence, white space around it aside."""
    nodes = [node for node in sequence if not (isinstance(node, str) and not node.strip())]
    return nodes[0] if len(nodes) == 1 else None


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")
