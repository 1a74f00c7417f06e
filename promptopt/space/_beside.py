"""Slots beside the words: a negative prompt with choices of its own, and generation settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from promptopt.space._space import Contents, PromptSpace, Reference, Slot
from promptopt.space._variation import Value


def beside(
    space: PromptSpace,
    *,
    negative: PromptSpace | None = None,
    knobs: Mapping[str, Sequence[Value]] | None = None,
) -> PromptSpace:
    """`space` with further slots: those of a negative prompt (`negative_...`), and one for every knob.

    Args:
        negative: the compiled template of the negative prompt; its words may be none.
        knobs: values by the name of a generation setting, such as `{"guidance": [2.0, 5.0]}`; all alike
            likely.

    Raises:
        ValueError: a knob without values or with equal ones, or named like another slot.

    >>> from promptopt.space import compile_template
    >>> space = beside(compile_template("a {red|pink} polyp"), knobs={"steps": [10, 20]})
    >>> space.size
    4
    >>> space.variation({"slot1": "red", "steps": "20"}).settings
    {'steps': 20}
    """
    slots = list(space.slots)
    layout = space.negative
    if negative is not None:
        taken = {slot.name for slot in slots} | set(knobs or {})
        names: dict[str, str] = {}
        for slot in negative.slots:
            name, number = f"negative_{slot.name}", 2
            while name in taken:
                name, number = f"negative_{slot.name}_{number}", number + 1
            taken.add(name)
            names[slot.name] = name
        slots += [_renamed(slot, names) for slot in negative.slots]
        layout = _moved(negative.layout, names)
    for name, values in (knobs or {}).items():
        options = tuple(_text(value) for value in values)
        if not options or len(set(options)) < len(options):
            raise ValueError(f"knob {name!r} has the values {list(values)}; give at least one, and each once")
        if any(slot.name == name for slot in slots):
            raise ValueError(f"knob {name!r} has the name of a slot of the template; rename the wildcard")
        weights = (1 / len(options),) * len(options)
        slots.append(Slot(name, options, weights, kind="knob", values=tuple(values)))
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
