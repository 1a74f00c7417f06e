"""A category from a user's grammar: the slots of its captions, weighted as a data set speaks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from promptopt.space._compile import compile_template
from promptopt.space.captions import LOOKED_AT, pictures_of
from promptopt.space.weighted import escaped
from studies.category import Category
from studies.dataset import Dataset, DatasetError
from studies.grammar import Grammar


def grammar_category(
    dataset: Dataset,
    name: str,
    grammar: Grammar,
    *,
    pools: tuple[str, ...] = LOOKED_AT,
    count_tokens: Callable[[str], int] | None = None,
    limit: int = 77,
) -> Category:
    """The template in which the grammar writes its captions of a label or category.

    An option weighs as often as pictures have it; half of a slot's weight is on saying nothing, more where
    few pictures have anything to say.

    Args:
        count_tokens: with it, the slots that the fewest pictures have are left out until every prompt has at
            most ``limit`` tokens.

    Raises:
        DatasetError: no picture of that label or category, no pattern for it, a part with two slots, or
            pictures without attributes (prepare them with the grammar).
    """
    pictures = pictures_of(dataset, name, pools)
    names = (name, pictures.records[0].label, pictures.records[0].category)
    template: list[str] = []
    wildcards: dict[str, list[str]] = {}
    shares: dict[str, float] = {}
    for part, slots in grammar.parts(names):
        if not slots:
            template.append(escaped(part))
            continue
        if len(slots) > 1 or slots[0] in wildcards:
            raise DatasetError(f"captions: {part!r}: write one slot in a part, and each once")
        counts = Counter(str(r.attributes[slots[0]]) for r in pictures if r.attributes.get(slots[0]))
        if not counts:
            continue
        share = shares[slots[0]] = counts.total() / len(pictures) / 2
        lead, _, rest = part.partition(f"{{{slots[0]}}}")
        wildcards[slots[0]] = [f"{_percent(1 - share)}::"] + [
            f"{_percent(share * n / counts.total())}::{escaped(lead.lstrip() + word + rest)}"
            for word, n in counts.most_common()
        ]
        template.append(f" __{slots[0]}__ ")
    if not wildcards:
        raise DatasetError(
            f"{dataset.root}: no image of {name!r} has an attribute that the grammar's caption says; "
            "prepare the data with --grammar"
        )
    text = " ".join("".join(template).split())
    while count_tokens is not None and len(wildcards) > 1:
        space = compile_template(text, wildcards)
        if count_tokens(space.render(space.longest(count_tokens))) <= limit:
            break
        rarest = min(wildcards, key=lambda slot: shares[slot])
        del wildcards[rarest]
        text = text.replace(f" __{rarest}__", "")
    others = sorted({r.category for r in dataset} - {r.category for r in pictures})
    baseline = grammar.prompt(names, {})
    distractors = {one: [grammar.prompt([one], {})] for one in others if grammar.writes([one])}
    return Category(
        name=name,
        title=name[:1].upper() + name[1:],
        template=text,
        wildcards=wildcards,
        texts=[baseline],
        distractors=distractors,
        baseline=baseline,
    )


def _percent(share: float) -> str:
    return f"{max(100 * share, 0.1):.3g}"
