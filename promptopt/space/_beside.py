"""Slots beside the words: a negative prompt with choices of its own, and generation parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from promptopt.space._space import Contents, PromptSpace, Reference, Slot
from promptopt.space.candidate import Value


def beside(
    space: PromptSpace,
    *,
    negative: PromptSpace | None = None,
    generation_parameters: Mapping[str, Sequence[Value]] | None = None,
) -> PromptSpace:
    """`space` with further slots: those of a negative prompt (`negative_...`), and of generation parameters.

    Args:
        negative: the compiled template of the negative prompt; its words may be none.
        generation_parameters: values by name, such as `{"guidance": [2.0, 5.0]}`; a slot each, all values
            alike likely.

    Raises:
        ValueError: a generation parameter without values or with equal ones, or named like another slot.

    >>> from promptopt.space import compile_template
    >>> space = beside(compile_template("a {red|pink} polyp"), generation_parameters={"steps": [10, 20]})
    >>> space.size
    4
    >>> space.candidate({"slot1": "red", "steps": "20"}).generation_parameters
    {'steps': 20}
    """
    slots = list(space.slots)
    layout = space.negative
    if negative is not None:
        taken = {slot.name for slot in slots} | set(generation_parameters or {})
        names: dict[str, str] = {}
        for slot in negative.slots:
            name, number = f"negative_{slot.name}", 2
            while name in taken:
                name, number = f"negative_{slot.name}_{number}", number + 1
            taken.add(name)
            names[slot.name] = name
        slots += [_renamed(slot, names) for slot in negative.slots]
        layout = _moved(negative.layout, names)
    for name, values in (generation_parameters or {}).items():
        options = tuple(_text(value) for value in values)
        if not options or len(set(options)) < len(options):
            raise ValueError(
                f"generation parameter {name!r} has the values {list(values)}; give one or more, each once"
            )
        if any(slot.name == name for slot in slots):
            raise ValueError(
                f"generation parameter {name!r} has the name of a slot of the template; rename the wildcard"
            )
        weights = (1 / len(options),) * len(options)
        slots.append(Slot(name, options, weights, kind="parameter", values=tuple(values)))
    return replace(space, slots=tuple(slots), negative=layout)


def _renamed(slot: Slot, names: Mapping[str, str]) -> Slot:
    contents = tuple(_moved(content, names) for content in slot.contents)
    options = slot.options
    if contents:
        options = tuple(
            "".join(p if isinstance(p, str) else f"${{{p.slot}}}" for p in content) for content in contents
        )
    return replace(slot, name=names[slot.name], options=options, kind="negative", contents=contents)


def _moved(contents: Contents, names: Mapping[str, str]) -> Contents:
    return tuple(p if isinstance(p, str) else Reference(names[p.slot]) for p in contents)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
