"""What putting words together leaves behind: spaces, commas, and articles that do not fit."""

import re

from promptopt.base.reading import visible

# Acronyms (MRI, X-ray), single letters and numbers are left alone: how they sound is not in their spelling.
_ARTICLE = re.compile(r"(?<![\w'-])(an?|(?:^|(?<=[.!?] ))An?) (?=([A-Za-z][a-z]+)(?![A-Za-z]))")
# "type a and b": here the letter is a name.
_NO_NOUN = frozenset(("an", "and", "are", "as", "at", "if", "in", "is", "it", "of", "on", "or", "up", "us"))
_VOWEL = re.compile(r"[aeiou]|hono|honest|hour|heir", re.IGNORECASE)
# Words that begin with a vowel's letter and a consonant's sound.
_GLIDE = re.compile(
    r"eu|ewe|one\b|once\b|ubiq|unanim|uni(?![dmn]|gn)|ur[eio]|us[aeiu]|ute|uti(?!c)|uto", re.IGNORECASE
)


def normalize(prompt: str) -> str:
    """Tidy what empty options leave: double spaces, spaces before punctuation, doubled or outer commas.

    Zero-width spaces go. An article is made to fit the word that follows it now: "a orange polyp" -> "an
    orange polyp".
    """
    prompt = visible(prompt)
    prompt = re.sub(r"\s*,(\s*,)+", ",", prompt)
    prompt = re.sub(r"\s+([,;!?]|[.:](?!\d))", r"\1", prompt)
    prompt = re.sub(r"\s+", " ", prompt)
    return _ARTICLE.sub(_fitting, prompt.strip(" ,"))


def _fitting(match: re.Match[str]) -> str:
    article, word = match[1], match[2]
    if word.lower() in _NO_NOUN or (article.lower() == "an" and word[0] in "hH"):
        return match[0]
    vowel = _VOWEL.match(word) is not None and _GLIDE.match(word) is None
    return article[0] + ("n " if vowel else " ")
