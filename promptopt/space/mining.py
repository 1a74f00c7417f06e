"""A category from the captions of a prepared data set: its heads, and what they vary, by frequency."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptopt.space._compile import compile_template
from promptopt.space.captions import LOOKED_AT, pictures_of
from promptopt.space.statements import END, Phrase, alike, merged, read_statements
from promptopt.space.weighted import escaped
from studies.category import Category
from studies.dataset import Dataset

Distances = Callable[[Sequence[str]], NDArray[np.floating[Any]]]
_MOST = 12  # options of a slot, nothing besides
_OFTEN = 1.5  # times as often on one picture as by chance
_SELDOM = 0.25
_EVIDENCE = 3  # pictures expected to show both, of which none or few do: no chance
_LITTLE = frozenset(["a", "an", "and", "at", "by", "from", "in", "no", "not", "of", "on", "the", "with"])
_SAME = 0.7  # normalized mutual information


def mine_category(
    dataset: Dataset,
    name: str,
    *,
    pools: tuple[str, ...] = LOOKED_AT,
    distances: Distances | None = None,
    closest: float = 0.2,
    count_tokens: Callable[[str], int] | None = None,
    limit: int = 77,
) -> Category:
    """Write a template from the captions of a label's pictures.

    Phrases that exclude one another on a picture ("dim", "bright") become the options of one slot; what is
    said together becomes slots beside each other. An option weighs as often as it is said; half of the weight
    of a slot is on saying nothing, more where it is seldom spoken of.

    Args:
        name: a label, or a category, of the data set.
        distances: texts -> (k, k) distances; phrases nearer than ``closest`` that are said of the same
            pictures are one option. None: only equal words are.
        count_tokens: with it, the slots that are least spoken of are left out until every prompt has at most
            ``limit`` tokens.

    Raises:
        DatasetError: no picture of that label or category in the pools.
    """
    pictures = pictures_of(dataset, name, pools)
    chosen = {record.file_name for record in pictures}
    rest = dataset.where(pool=pools)
    others = Dataset(rest.root, tuple(r for r in rest if r.file_name not in chosen), dataset.fingerprint)
    statements = read_statements(pictures, others)
    heads = statements.heads or ((name, 1.0),)
    several = statements.captions_a_picture > 1.5
    phrases = _without_paraphrases(statements.phrases, distances, closest, several)
    slots = _without_repetition(_slots(phrases))
    texts = [head for head, _ in heads]
    distractors = _other_heads(rest, others, set(texts))
    while True:
        template, wildcards = _template(heads, slots)
        if count_tokens is None or not slots:
            break
        space = compile_template(template, wildcards)
        if count_tokens(space.render(space.longest(count_tokens))) <= limit:
            break
        slots.remove(min(slots, key=_share))
    return Category(
        name=name,
        title=name[:1].upper() + name[1:],
        template=template,
        wildcards=wildcards,
        texts=texts,
        distractors=distractors,
        baseline=texts[0],
    )


def _without_paraphrases(
    phrases: Sequence[Phrase], distances: Distances | None, closest: float, several: bool
) -> list[Phrase]:
    kept: list[Phrase] = []
    table = distances([one.words for one in phrases]) if distances and phrases else None
    place = {one.words: index for index, one in enumerate(phrases)}
    for phrase in phrases:
        for index, other in enumerate(kept):
            equal = phrase.words.lower() == other.words.lower()
            near = table is not None and table[place[phrase.words], place[other.words]] < closest
            # The words of opposites are near too, but they are not said of one picture.
            if equal or (near and several and _lift(phrase, other) >= _OFTEN):
                kept[index] = merged(other, phrase)
                break
        else:
            kept.append(phrase)
    return kept


def _lift(first: Phrase, second: Phrase) -> float:
    """How many times as often as by chance two phrases are said of one picture."""
    return float((first.of & second.of).mean() / (first.share * second.share))


def _slots(phrases: Sequence[Phrase]) -> list[list[Phrase]]:
    """Phrases that stand at one place and state one attribute, end alike, or exclude each other."""
    slots = [[phrase] for phrase in phrases]
    for fits in (_same_attribute, _related, _excluding):  # the surest sign first
        grown: list[list[Phrase]] = []
        for slot in slots:
            ways = [
                (fits(other, slot), -index)
                for index, other in enumerate(grown)
                if (other[0].before, other[0].field) == (slot[0].before, slot[0].field)
            ]
            best, index = max(ways, default=(0.0, 0))
            if best > 0:
                grown[-index] += slot
            else:
                grown.append(list(slot))
        slots = grown
    return [sorted(slot, key=lambda one: -one.share)[:_MOST] for slot in slots]


def _same_attribute(first: Sequence[Phrase], second: Sequence[Phrase]) -> float:
    ends, others = ({one.words.lower().split()[-1] for one in slot} for slot in (first, second))
    return float(first[0].field is not None or bool(ends & others))


def _related(first: Sequence[Phrase], second: Sequence[Phrase]) -> float:
    return len(_words(first) & _words(second)) * float(_exclusion(first, second)[0] <= _SELDOM)


def _excluding(first: Sequence[Phrase], second: Sequence[Phrase]) -> float:
    ratio, expected = _exclusion(first, second)
    return expected * float(ratio <= _SELDOM and expected >= _EVIDENCE)


def _exclusion(first: Sequence[Phrase], second: Sequence[Phrase]) -> tuple[float, float]:
    """On how many pictures phrases of both are said, as a share of what chance gives; and what it gives."""
    pairs = [(one, other) for one in first for other in second]
    expected = sum(one.share * other.share * len(one.of) for one, other in pairs)
    return sum(float((one.of & other.of).sum()) for one, other in pairs) / expected, expected


def _words(slot: Sequence[Phrase]) -> set[str]:
    return {word for one in slot for word in re.findall(r"\w+", one.words.lower())} - _LITTLE


def _share(slot: Sequence[Phrase]) -> float:
    """Of how many pictures a slot's phrases speak."""
    return float(np.any([one.of for one in slot], axis=0).mean())


def _rank(slot: Sequence[Phrase]) -> float:
    """Where among the slots of its place a slot is written."""
    return float(np.average([one.rank for one in slot], weights=[one.share for one in slot]))


def _without_repetition(slots: list[list[Phrase]]) -> list[list[Phrase]]:
    """Without slots that tell what another one tells already: a prompt could contradict itself."""
    from sklearn.metrics import normalized_mutual_info_score

    kept: list[list[Phrase]] = []
    for slot in sorted(slots, key=lambda one: (one[0].before == END, -_share(one))):
        said = np.argmax([one.of for one in slot], axis=0)
        of = np.any([one.of for one in slot], axis=0)
        for other in kept:
            both = of & np.any([one.of for one in other], axis=0)
            told = np.argmax([one.of for one in other], axis=0)
            if (
                min(len(set(said[both])), len(set(told[both]))) > 1
                and normalized_mutual_info_score(said[both], told[both]) > _SAME
            ):
                break
        else:
            kept.append(slot)
    return kept


def _other_heads(rest: Dataset, others: Dataset, own: set[str]) -> dict[str, list[str]]:
    """How pictures of other labels are called."""
    found = {}
    for label in sorted({record.label for record in others}):
        here = others.where(label=label)
        there = Dataset(rest.root, tuple(r for r in rest if r.label != label), rest.fingerprint)
        texts = [head for head, _ in read_statements(here, there).heads if head not in own]
        if texts:
            found[label] = texts
    return found


def _template(
    heads: Sequence[tuple[str, float]], slots: Sequence[Sequence[Phrase]]
) -> tuple[str, dict[str, list[str]]]:
    wildcards: dict[str, list[str]] = {}
    holes: dict[str, list[str]] = {}
    for slot in sorted(slots, key=_rank):
        name = _slot_name(slot, wildcards)
        wildcards[name] = _options(slot)
        holes.setdefault(slot[0].before, []).append(f"__{name}__")
    words = [head.split() for head, _ in heads]
    shared = 0
    while all(len(one) > shared for one in words) and len({alike(one[-1 - shared]) for one in words}) == 1:
        shared += 1
    end = _with_holes(words[0][len(words[0]) - shared :], holes)
    tail = " ".join(holes.get(END, ()))
    if len(heads) == 1:
        return f"{end} {tail}".strip(), wildcards
    openings = [
        f"{_number(share)}::{_with_holes(one[: len(one) - shared], holes)}"
        for one, (_, share) in zip(words, heads, strict=True)
    ]
    return f"__opening__ {end} {tail}".strip(), {"opening": openings, **wildcards}


def _with_holes(words: Sequence[str], holes: dict[str, list[str]]) -> str:
    found: list[str] = []
    for word in words:
        found += [*holes.get(alike(word), ()), escaped(word)]
    return " ".join(found)


def _options(slot: Sequence[Phrase]) -> list[str]:
    lead = ", " if slot[0].before == END else ""
    spoken, total = _share(slot) / 2, sum(one.share for one in slot)
    return [f"{_number(1 - spoken)}::"] + [
        f"{_number(spoken * one.share / total)}::{lead}{escaped(one.words)}" for one in slot
    ]


def _number(share: float) -> str:
    return f"{max(100 * share, 0.1):.3g}"


def _slot_name(slot: Sequence[Phrase], taken: dict[str, list[str]]) -> str:
    base = slot[0].field or "-".join(re.findall(r"[a-z0-9]+", slot[0].words.lower())[-2:]) or "words"
    name, number = base, 1
    while name in taken or name == "opening":
        number += 1
        name = f"{base}-{number}"
    return name
