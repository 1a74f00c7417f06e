"""The captions of real pictures as prompts: a method to compare with, and what templates are mined from."""

from __future__ import annotations

from promptopt.space._tidy import normalize
from studies.dataset import Dataset, DatasetError

LOOKED_AT = ("reference", "validation")


def pictures_of(dataset: Dataset, name: str, pools: tuple[str, ...] = LOOKED_AT) -> Dataset:
    """The pictures of a label, or else of a category, in these pools.

    Raises:
        DatasetError: there are none.
    """
    part = dataset.where(pool=pools)
    found = part.where(label=name)
    found = found if len(found) else part.where(category=name)
    if not len(found):
        labels = sorted({record.label for record in dataset})
        raise DatasetError(
            f"{dataset.root}: no image of the pools {' and '.join(pools)} has the label or category "
            f"{name!r}; labels there: {', '.join(labels)}"
        )
    return found


def caption_prompts(
    dataset: Dataset, name: str, *, pools: tuple[str, ...] = LOOKED_AT
) -> tuple[tuple[str, float], ...]:
    """Every caption of a label's pictures with its weight, the most frequent first; the weights sum to 1.

    Every picture has the same weight, shared by its captions. Captions that differ in case, spaces or the
    full stop are one prompt. By default the pictures of the pool "test" are not looked at.

    Raises:
        DatasetError: there is no such picture.
    """
    records = pictures_of(dataset, name, pools).records
    written: dict[str, str] = {}
    weights: dict[str, float] = {}
    for record in records:
        for text in record.text:
            prompt = normalize(text)
            key = written.setdefault(prompt.casefold().rstrip("."), prompt)
            weights[key] = weights.get(key, 0.0) + 1 / (len(records) * len(record.text))
    return tuple(sorted(weights.items(), key=lambda item: -item[1]))
