"""Prompts from the truth of phantom pictures: what an all-knowing author of prompts would write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.dataset import Dataset, DatasetError
from studies.phantom.captions import ARTICLES, PARIS_WORDS, SIZE_WORDS

_LOOKED_AT = ("reference", "validation")


def oracle_prompts(
    dataset: Dataset, label: str, *, pools: tuple[str, ...] = _LOOKED_AT
) -> tuple[tuple[str, float], ...]:
    """The true caption of every picture of a label, each once, with its share of them; the weights sum to 1.

    Raises:
        DatasetError: there is no such picture, or its truth is not stated (``attributes``).
    """
    records = dataset.where(pool=pools, label=label).records
    if not records:
        raise DatasetError(f"{dataset.root}: no image has the label {label!r} in {' or '.join(pools)}")
    for record in records:
        if "sharpness" not in record.attributes:
            raise DatasetError(
                f"{dataset.root}: {record.file_name} states no truth in 'attributes'; take a phantom set"
            )
    counts: dict[str, int] = {}
    for record in records:
        prompt = true_caption(record.attributes)
        counts[prompt] = counts.get(prompt, 0) + 1
    return tuple((prompt, count / len(records)) for prompt, count in counts.items())


def true_caption(truth: Mapping[str, Any]) -> str:
    """All that the training captions could say of a picture, in their words and order.

    >>> truth = {"category": "normal", "kind": "normal", "procedure": "gastroscopy", "locations": [],
    ...     "sharpness": "blurred", "light": "dim", "text": False, "box": True}
    >>> true_caption(truth)
    'a gastroscopy image of normal mucosa, blurred, dim, no text, with a green box'
    """
    places, count = truth["locations"], len(truth["locations"])
    parts = [f"a {truth['procedure']} image of {_subject(truth)}"]
    if places:
        parts.append("located in the " + " and ".join(filter(None, (", ".join(places[:-1]), places[-1]))))
    if truth["category"] == "polyps":
        parts.append(f"{count} polyp{'s' * (count > 1)}")
    parts += [truth["sharpness"], truth["light"]]
    parts.append("with text" if truth["text"] else "no text")
    parts.append("with a green box" if truth["box"] else "no green box")
    return ", ".join(parts)


def _subject(truth: Mapping[str, Any]) -> str:
    if truth["category"] != "polyps":
        return ARTICLES[truth["kind"]]
    return f"a {SIZE_WORDS[truth['size']]} {truth['color']} {PARIS_WORDS[truth['paris']]} polyp"
