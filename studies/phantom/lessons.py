"""Parts of a phantom set with captions that tell where, or how many, and nothing else.

A small generator learns kind and color from full captions within hundreds of steps, and place and number
not in thousands: they explain too little of the picture. A few hundred steps on a lesson are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from studies.dataset import Dataset, Record, read_dataset, write_metadata
from studies.phantom.captions import SIZE_WORDS

Lesson = Literal["place", "number", "review", "drill", "polish"]
_OPENINGS = ("a colonoscopy image of", "an endoscopy photo of", "endoscopic view of")
# Images of a review: all with several polyps, which are rare, and so many of the others.
_REVIEW = {"polyps": 2800, "landmarks": 2300, "instruments": 2700, "normal": 700}
_BESIDE_DRILL = {"polyps": 1200, "landmarks": 1200, "instruments": 1300, "normal": 300}
_BESIDE_POLISH = 5000


def write_lesson(data: Dataset, out: str | Path, *, lesson: Lesson, seed: int = 0) -> Dataset:
    """Write a part of the reference pool of a phantom set into ``out``; the pictures are hard links.

    Args:
        lesson: "place": single polyps and instruments, captions that tell where; "number": polyps that are
            not large, the numbers balanced, captions that tell how many; "review": every category, the full
            captions, and more that tell the number; "drill": the lesson in number, and as many others.

    Raises:
        DatasetError: if ``data`` does not state the truth of its pictures, or the folder cannot be read.
        OSError: if ``out`` is not on the same file system.
    """
    root, rng = Path(out), np.random.default_rng(seed)
    make = {"place": _place, "number": _number, "review": _review, "drill": _drill, "polish": _polish}[lesson]
    records = make(data.where(pool="reference").records, rng)
    for record in records:
        target = root / record.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.hardlink_to(data.root / record.file_name)
    write_metadata(root, records)
    return read_dataset(root)


def _place(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    subjects = {"polyps": "a polyp", "instruments": "an instrument"}
    return [
        replace(
            record,
            text=tuple(
                f"{opening} {subjects[record.category]}, located in the {record.attributes['locations'][0]}"
                for opening in _OPENINGS
            ),
        )
        for record in records
        if record.category in subjects and record.attributes["count"] == 1
    ]


def _number(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    by_count: dict[int, list[Record]] = {1: [], 2: [], 3: []}
    for record in records:
        truth = record.attributes
        if record.category == "polyps" and truth["size"] != ">20mm":  # a large polyp is always alone
            size, number = SIZE_WORDS[truth["size"]], _told(truth)
            text = tuple(f"{opening} a polyp, {number}" for opening in _OPENINGS)
            more = (f"{_OPENINGS[0]} a {size} polyp, {number}", f"Generate an image with {number}.")
            by_count[truth["count"]].append(replace(record, text=text + more))
    most = min(len(by_count[2]), 2 * len(by_count[3]))
    return [record for group in by_count.values() for record in _some(group, most, rng)]


def _review(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    chosen = []
    for category, most in _REVIEW.items():
        group = [record for record in records if record.category == category]
        several = [record for record in group if record.attributes["count"] > 1]
        alone = [record for record in group if record.attributes["count"] <= 1]
        chosen += several + _some(alone, most, rng)
    return [_with_number(record, rng) if record.category == "polyps" else record for record in chosen]


def _drill(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    counted = _number(records, rng)
    places = {record.file_name: record.text[:1] for record in _place(counted, rng)}
    counted = [replace(record, text=record.text + places.get(record.file_name, ())) for record in counted]
    taken = {record.file_name for record in counted}
    for category, most in _BESIDE_DRILL.items():
        group = [r for r in records if r.category == category and r.file_name not in taken]
        counted += _some(group, most, rng)
    return counted


def _polish(records: Sequence[Record], rng: np.random.Generator) -> list[Record]:
    polyps = [record for record in records if record.category == "polyps"]
    others = [record for record in records if record.category != "polyps"]
    return [_with_plain_words(record) for record in polyps] + _some(others, _BESIDE_POLISH, rng)


def _with_plain_words(record: Record) -> Record:
    truth = record.attributes
    size, number = SIZE_WORDS[truth["size"]], _told(truth)
    more = (
        f"{_OPENINGS[0]} a polyp, {number}",
        f"{_OPENINGS[2]} a {size} polyp, {number}",
        "Generate an image containing a polyp.",
        f"{_OPENINGS[0]} a polyp",
        f"{_OPENINGS[0]} a {truth['color']} polyp",
    )
    return replace(record, text=record.text + more)


def _with_number(record: Record, rng: np.random.Generator) -> Record:
    truth = record.attributes
    words = ("", f"{SIZE_WORDS[truth['size']]} ", f"{truth['color']} ")
    return replace(
        record,
        text=record.text + tuple(f"{rng.choice(_OPENINGS)} a {word}polyp, {_told(truth)}" for word in words),
    )


def _told(truth: Mapping[str, object]) -> str:
    return f"{truth['count']} polyp{'s' * (truth['count'] != 1)}"


def _some(group: Sequence[Record], most: int, rng: np.random.Generator) -> list[Record]:
    return [group[i] for i in sorted(rng.permutation(len(group))[:most])]
