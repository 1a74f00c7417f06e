"""Names of files and folders: from names in any script, and without the user's own."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path


def slug(name: str, *, keep: str = "", empty: str = "x") -> str:
    """A name as lower-case ASCII letters, digits, hyphens and the characters in `keep`.

    Behind a name that is not ASCII come six hexadecimal digits of the sha256 of its NFC form, so that
    different names stay different; `empty` is for a name of which nothing is left.

    >>> slug("Z-line (LA grade B)")
    'z-line-la-grade-b'
    >>> slug("ポリープ", empty="class")
    'class-8fcc3d'
    """
    name = unicodedata.normalize("NFC", name)
    plain = re.sub(rf"[^a-z0-9{re.escape(keep)}]+", "-", name.lower()).strip("-") or empty
    return plain if name.isascii() else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def without_home(text: str) -> str:
    """An address with the home folder written ``~``, which readers expand: for files that others see.

    >>> without_home(f"{Path.home()}/sd+lora:{Path.home()}/lora")
    '~/sd+lora:~/lora'
    """
    try:
        home = str(Path.home())
    except RuntimeError:  # a user without one
        return text
    if len(home) < 2:
        return text
    return re.sub(rf"(?<![\w/.~-]){re.escape(home)}(?=/|$)", "~", text)
