"""The words of the data's captions as a cloud: the larger a word, the more captions hold it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.formatting.pictures import save_png
from promptopt.run.folder import STUDY

if TYPE_CHECKING:
    from promptopt.export.paper.sources import FinishedRun

_MOST, _WIDE, _LARGEST, _LEAST = 40, 900, 64, 14  # words, pixels of the picture, sizes of type
_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
# Words that say nothing about a picture. Lists for search engines also hold "top", "left" or "no", which do.
_PLAIN = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to from with and or as by for is are was were be been it its this that these "
        "those there which",
    )
)


def word_shares(texts: Iterable[str], *, most: int = _MOST) -> dict[str, float]:
    """The most frequent words in alphabetical order, with the share of the texts that hold them.

    >>> word_shares(["a red polyp", "the polyp"])
    {'polyp': 1.0, 'red': 0.5}
    """
    listed = list(texts)
    counts = Counter(word for text in listed for word in {w.lower() for w in _WORD.findall(text)} - _PLAIN)
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return {word: count / len(listed) for word, count in sorted(top)}


def write_cloud(run: FinishedRun, path: Path) -> bool:
    """A PNG of the captions of a study's category; False where its data has none, or is gone."""
    from PIL import Image, ImageDraw

    from promptopt.config.study_file import StudyError, load_study
    from studies.dataset import DatasetError, read_dataset

    name = run.prompts.settings["positives"]
    try:
        config = load_study(run.folder / STUDY)
        records = list(read_dataset(config.data)) if isinstance(config.data, str) else []
    except (StudyError, DatasetError):
        return False
    own = [record.text for record in records if name in (record.category, record.label)]
    shares = word_shares(text for texts in own for text in texts)
    if not shares:
        return False
    sheet = Image.new("RGB", (_WIDE, _WIDE), "white")
    draw, left, top = ImageDraw.Draw(sheet), 0.0, 0
    for word, share in shares.items():
        # the square root, as the eye reads areas
        size = max(_LEAST, round(_LARGEST * (share / max(shares.values())) ** 0.5))
        width = draw.textlength(f"{word} ", font_size=size)
        if left and left + width > _WIDE:
            left, top = 0.0, top + _LARGEST
        draw.text((left, top + _LARGEST), word, fill="black", font_size=size, anchor="ls")
        left += width
    save_png(sheet.crop((0, 0, _WIDE, min(_WIDE, top + round(1.4 * _LARGEST)))), path)
    return True
