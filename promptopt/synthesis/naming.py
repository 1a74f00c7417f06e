"""File names of generated images, by a pattern of prompt number and image number."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from string import Formatter

from promptopt.base.errors import PromptoptError

PATTERN = "prompt{p:04d}_img{i:04d}.png"
"""The 2025 edition's; the 2024 edition leaves the names free."""

IN_A_FOLDER = 10_000
"""Most images of one folder: file managers and shared disks are slow with more."""

LARGE = "prompts{P:03d}_imgs{I:03d}/" + PATTERN
"""Of more images: a folder for every hundred images of every hundred prompts, wherever more are added."""

_HUNDRED = 100  # its square is IN_A_FOLDER
_FIELDS = ("p", "i", "P", "I")
_WIDTH = re.compile(r"|d|0[1-9]\d?d?")
_FORBIDDEN = '\\:*?"<>|\0\n\r'


class PatternError(PromptoptError, ValueError):
    """A pattern of file names cannot be used; the message says which part and what would be right."""


def image_name(pattern: str, *, prompt: int, image: int) -> str:
    """The name of one image, whose numbers count from 1.

    Example:
        >>> image_name(LARGE, prompt=101, image=7)
        'prompts001_imgs000/prompt0101_img0007.png'
    """
    return pattern.format(p=prompt, i=image, P=(prompt - 1) // _HUNDRED, I=(image - 1) // _HUNDRED)


def check_pattern(pattern: str, *, images: int) -> str:
    """The pattern, if every (prompt, image) gets a name of its own inside the folder.

    Args:
        pattern: with ``{p}`` for the prompt's number and ``{i}`` for the image's, both from 1, each with or
            without a width (``{p:04d}``); may have subfolders, separated by ``/``, and for them ``{P}`` and
            ``{I}``, the hundreds of the two, from 0.
        images: most images that one prompt has; with 1 the pattern needs no ``{i}``.

    Raises:
        PatternError: another field or format, a name that leaves the folder or is no PNG, or names that could
            come twice.
    """
    where = f"--pattern {pattern!r}"
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise PatternError(f"{where}: {error}; write something like {PATTERN!r}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in _FIELDS or conversion or not _WIDTH.fullmatch(spec or "")):
            field = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise PatternError(
                f"{where}: the field {{{field}}} does not exist; use {{p}} (prompt number) and {{i}} (image "
                "number), {P} and {I} for hundreds of them, with a width as in {p:04d}"
            )
    fields = [name for _, name, _, _ in parts if name is not None]
    if "p" not in fields or ("i" not in fields and images > 1):
        lacking = "p" if "p" not in fields else "i"
        raise PatternError(f"{where}: lacks {{{lacking}}}, so images would overwrite each other; add it")
    for position, (literal, name, _, _) in enumerate(parts):
        # Numbers that touch are ambiguous: 1 and 11 against 11 and 1.
        if position and name is not None and all(character.isdigit() for character in literal):
            raise PatternError(
                f"{where}: two numbers touch, so different images could get one name; put '_' between"
            )
    example = image_name(pattern, prompt=1, image=1)
    path = PurePosixPath(example)
    if (
        path.is_absolute()
        or any(part in (".", "..") or part.startswith((".", "~")) for part in path.parts)
        or any(character in example for character in _FORBIDDEN)
        or str(path) != example
    ):
        raise PatternError(
            f"{where}: gives {example!r}; write a plain name inside the folder, such as {PATTERN!r}"
        )
    if path.suffix.lower() != ".png":
        raise PatternError(f"{where}: gives {example!r}; the images are PNG files, so let it end in .png")
    return pattern
