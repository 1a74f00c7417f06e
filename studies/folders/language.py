"""Whether captions are in English, which CLIP and the text encoders of Stable Diffusion read."""

import re
import unicodedata
from collections.abc import Sequence

_SHARE = 0.2  # of the captions; fewer may be names and quotations
# Words that hold sentences together, and are frequent in one language alone among these.
_WORDS = {
    "English": "the of with and in is are an on at from by to this that a no not image photo",
    "German": "der die das und mit eine ein einer eines einem einen ist im von auf zeigt ohne bild",
    "French": "le la les des une un du et avec dans est sur au aux sans par",
    "Spanish": "el la los las una un del y con en es sobre sin por imagen",
    "Italian": "il lo gli della del una un di e con nel nella è senza immagine",
    "Portuguese": "o os as uma um do da e com em no na é sem imagem",
    "Dutch": "de het een van en met op zonder is afbeelding",
    "Polish": "z na w i o jest oraz bez obraz",
    "Turkish": "bir ve ile görüntüsü olan",
}
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


def foreign_caption(captions: Sequence[str]) -> tuple[str, str] | None:
    """A caption that is not English, and its language or script, where a fifth or more of them are not.

    By the letters, and by the small words of eight languages; a caption without either counts as English.

    >>> foreign_caption(["eine Aufnahme mit einem Polypen", "normale Schleimhaut"])
    ('eine Aufnahme mit einem Polypen', 'German')
    >>> foreign_caption(["a photo of a polyp", "polyp"]) is None
    True
    """
    found = [(one, name) for one in captions if (name := _language(one)) is not None]
    return found[0] if captions and len(found) >= _SHARE * len(captions) else None


def _language(text: str) -> str | None:
    letters = [character for character in text if character.isalpha()]
    foreign = [one for one in letters if not unicodedata.name(one, "LATIN").startswith("LATIN")]
    if 2 * len(foreign) > len(letters):
        script = unicodedata.name(foreign[0]).split()[0]
        return _SCRIPTS.get(script, f"written in {script.capitalize()} letters")
    words = re.findall(r"\w+", text.lower())
    scores = {name: sum(word in small.split() for word in words) for name, small in _WORDS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 2 and scores[best] > scores["English"] else None
