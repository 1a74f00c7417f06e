"""What captions state, taken apart: the heads that name the label, and phrases with their place in a head.

A head is a plain caption ("Generate an image containing a polyp") from which others come by putting words
in ("Generate a dim image containing a polyp"), or by going on ("..., located in the center").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promptopt.space._tidy import normalize
from studies.dataset import Dataset
from studies.medvqa_gi import CaptionError, parse_caption
from studies.medvqa_gi.attributes import Attributes
from studies.medvqa_gi.captions import render_caption

Flags = NDArray[np.bool_]
END = ""
_LEAST = 0.01  # share of pictures a phrase is said of
_LEAST_HEAD = 0.05
_HEADS = 6
_NAMES_THE_PICTURE = ("findings", "landmark", "instruments")
_GRAMMAR = {  # how a statement of the challenge goes on after a head
    "sizes": r"^Generate an image with (?:a polyp|polyps) (of size .*)\.$",
    "paris": r"^Generate (?:a polyp|polyps) (of type .*)\.$",
    "colors": r"^Generate an image (with) an abnormality with (the colors? .*)\.$",
    "locations": r"^Generate an image with an .* (located in the .*)\.$",
    "count": r"^Generate an image (with .*)\.$",
    "text": r"^Generate an image (.*)\.$",
    "box_artefact": r"^Generate an image (.*)\.$",
    "procedure": r"^Generate an image (.*)\.$",
}


@dataclass(frozen=True)
class Phrase:
    """Words that captions add to a head.

    Attributes:
        words: as they are written.
        before: the word of the head that they stand before; END: after the head.
        of: which pictures they are said of, shape (pictures,).
        field: the attribute of the challenge's grammar that they state, or None.
        rank: where among the phrases of one place they are written, from 0, first, to 1, last.
    """

    words: str
    before: str
    of: Flags
    field: str | None = None
    rank: float = 1.0

    @property
    def share(self) -> float:
        return float(self.of.mean())


@dataclass(frozen=True)
class Statements:
    """Heads with their shares of the pictures, the most frequent first, and the phrases."""

    heads: tuple[tuple[str, float], ...]
    phrases: tuple[Phrase, ...]
    captions_a_picture: float


def read_statements(pictures: Dataset, others: Dataset) -> Statements:
    """Take the captions of a label's pictures apart; ``others`` are pictures of other labels.

    A caption that is as frequent among the others names no label, so it is no head.
    """
    leads: dict[str, set[int]] = {}
    rows: list[tuple[int, str, list[str]]] = []
    said: dict[tuple[str, str, str | None], set[int]] = {}
    for index, record in enumerate(pictures):
        for sentence in _sentences(record.text):
            stated = _parsed(sentence)
            if stated is not None and not _names(stated):
                for attribute, words in _fragments(stated):
                    said.setdefault((END, words, attribute), set()).add(index)
                continue
            lead, *rest = _chunks(sentence)
            leads.setdefault(lead, set()).add(index)
            rows.append((index, lead, rest))
    heads = _heads({lead: len(on) / len(pictures) for lead, on in leads.items()}, _shares(others))
    inner: dict[tuple[str, str], set[int]] = {}
    ranks: dict[tuple[str, str], list[float]] = {}
    for index, lead, rest in rows:
        tail = rest if heads else [lead, *rest]
        for place, words in enumerate(tail):
            ranks.setdefault((END, words), []).append(place / len(tail))
        for before, words in (*_insertions(lead, heads), *((END, words) for words in tail)):
            inner.setdefault((before, words), set()).add(index)
    fewest = max(2, round(_LEAST * len(pictures)))
    if not heads:
        inner = _ngrams(inner, len(pictures), fewest)
    for key, on in _taken_apart(inner, fewest, ranks).items():
        said.setdefault((*key, None), set()).update(on)
    phrases = []
    for (before, words, field), on in said.items():
        of = np.zeros(len(pictures), dtype=np.bool_)
        of[list(on)] = True
        rank = ranks.get((before, words), [1.0])
        phrases.append(Phrase(words, before, of, field, float(np.mean(rank))))
    kept = [phrase for phrase in phrases if phrase.of.sum() >= fewest]
    return Statements(
        heads=tuple((head, len(leads[head]) / len(pictures)) for head in heads),
        phrases=tuple(sorted(kept, key=lambda one: (-one.share, one.words))),
        captions_a_picture=float(np.mean([len(record.text) for record in pictures])),
    )


def _sentences(texts: Iterable[str]) -> list[str]:
    return [one for text in texts for one in re.split(r"(?<=[.!?])\s+", normalize(text)) if one]


def _parsed(sentence: str) -> Attributes | None:
    try:
        return parse_caption(sentence).attributes
    except CaptionError:
        return None


def _names(stated: Attributes) -> bool:
    """Whether a statement may stand for the picture: it names what is there, or that nothing is."""
    return stated.stated()[0] in _NAMES_THE_PICTURE or stated.count == 0


def _fragments(stated: Attributes) -> list[tuple[str, str]]:
    found = []
    for field in stated.stated():
        match = re.match(_GRAMMAR[field], render_caption(stated)) if field in _GRAMMAR else None
        if match is not None:
            found.append((field, " ".join(match.groups())))
    return found


def _chunks(sentence: str) -> list[str]:
    found: list[str] = []
    for part in re.split(r"[,;]\s+", sentence.rstrip(".!? ")):
        if found and re.match(r"and |\S+ and \S+$", part):  # the end of a list: "left, center and right"
            found[-1] += f", {part}"
        elif part.strip():
            found.append(part.strip())
    return found


def _shares(others: Dataset) -> dict[str, float]:
    found: dict[str, set[int]] = {}
    for index, record in enumerate(others):
        for sentence in _sentences(record.text):
            for lead in _chunks(sentence)[:1]:
                found.setdefault(lead, set()).add(index)
    return {lead: len(on) / len(others) for lead, on in found.items()}


def _heads(shares: dict[str, float], elsewhere: dict[str, float]) -> tuple[str, ...]:
    """The plain ones among frequent captions: those that hold no other one's words in order."""
    frequent = [
        lead
        for lead, share in shares.items()
        if share >= _LEAST_HEAD and share > 2 * elsewhere.get(lead, 0.0)
    ]
    frequent.sort(key=lambda lead: (len(lead.split()), -shares[lead], lead))
    plain: list[str] = []
    for lead in frequent:
        if not any(_places(lead, head) for head in plain):
            plain.append(lead)
    return tuple(sorted(plain, key=lambda lead: -shares[lead])[:_HEADS])


def alike(word: str) -> str:
    """A word as it is compared: "an" is "a"."""
    return "a" if word.lower() == "an" else word.lower()


def _places(lead: str, head: str) -> list[int] | None:
    """Where the words of ``head`` stand in ``lead``, in order; None if they do not."""
    words, at, found = [alike(word) for word in lead.split()], 0, []
    for wanted in head.split():
        try:
            at = words.index(alike(wanted), at) + 1
        except ValueError:
            return None
        found.append(at - 1)
    return found


def _insertions(lead: str, heads: Sequence[str]) -> list[tuple[str, str]]:
    """(word of the head behind it, words put in) for the head with most words that ``lead`` holds."""
    for head in sorted(heads, key=lambda one: -len(one.split())):
        places = _places(lead, head)
        if places is None:
            continue
        words, found, last = lead.split(), [], -1
        for place, following in zip([*places, len(words)], [*head.split(), END], strict=True):
            put_in = [word for word in words[last + 1 : place] if alike(word) not in ("a", "and")]
            if put_in:
                between = words[last + 1 : place]
                text = " ".join(between[1:] if alike(between[0]) in ("a", "and") else between)
                found.append((alike(following), text))
            last = place
        return found
    return []


def _taken_apart(
    said: dict[tuple[str, str], set[int]], fewest: int, ranks: dict[tuple[str, str], list[float]]
) -> dict[tuple[str, str], set[int]]:
    """Phrases such as "large red" as "large" and "red", where both are said alone as well; adds ranks."""
    whole: dict[str, set[str]] = {}
    found: dict[tuple[str, str], set[int]] = {}
    for (before, words), on in sorted(said.items(), key=lambda item: (len(item[0][1].split()), item[0])):
        known = whole.setdefault(before, set())
        parts = _split(words.split(), known)
        if parts is None and len(on) >= fewest:
            known.add(words)
        for place, part in enumerate(parts or [words]):
            found.setdefault((before, part), set()).update(on)
            if parts and before != END:
                ranks.setdefault((before, part), []).append(place / (len(parts) - 1 or 1))
    return found


def _split(words: list[str], known: set[str]) -> list[str] | None:
    if not words:
        return []
    for length in range(1, len(words) + 1):
        first = " ".join(words[:length])
        if first in known and (rest := _split(words[length:], known)) is not None:
            return [first, *rest]
    return None


def _ngrams(
    said: dict[tuple[str, str], set[int]], pictures: int, fewest: int
) -> dict[tuple[str, str], set[int]]:
    """Frequent runs of one to four words of free captions, the longest where several say the same."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    texts = [""] * pictures
    for (_, words), on in said.items():
        for index in on:
            texts[index] += f" . {words}"
    counter = CountVectorizer(
        binary=True, ngram_range=(1, 4), token_pattern=r"[\w<>%][\w<>%/-]*|\.", min_df=fewest
    )
    try:
        table = counter.fit_transform(texts).toarray().astype(bool)
    except ValueError:  # no run of words is frequent
        return {}
    runs = {}
    for words, column in counter.vocabulary_.items():
        edges = words.split()[0], words.split()[-1]
        if "." not in words.split() and not any(edge in ENGLISH_STOP_WORDS for edge in edges):
            runs[words] = table[:, column]
    kept = {
        words: of
        for words, of in runs.items()
        if not any(f" {words} " in f" {o} " and o != words and runs[o].sum() >= 0.8 * of.sum() for o in runs)
    }
    return {(END, words): set(np.flatnonzero(of).tolist()) for words, of in kept.items()}


def merged(first: Phrase, second: Phrase) -> Phrase:
    """Two phrases that say the same, in the words of the more frequent one."""
    one, other = (first, second) if first.share >= second.share else (second, first)
    return replace(one, of=one.of | other.of)
