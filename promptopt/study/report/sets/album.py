"""The pictures of a page: each is embedded once, however often it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

from promptopt.base.images import read_image
from promptopt.study.report.pictures import embed, thumbnail


class Album:
    """Pictures by number. The first place of one on the page holds it, later ones are filled in by a script.

    Example:
        >>> from pathlib import Path
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp()) / "red.png"
        >>> Image.new("RGB", (8, 8), "red").save(path)
        >>> album = Album()
        >>> album.add(path), album.add(path)
        (0, 0)
        >>> str(album.attributes(0)).startswith('data-picture="0" src="data:image/png;base64,')
        True
        >>> str(album.attributes(0)), str(album.rest())
        ('data-picture="0"', '{}')
    """

    def __init__(self) -> None:
        self._numbers: dict[Path, int] = {}
        self._known: dict[str, int] = {}
        self._sources: list[str] = []
        self._placed: set[int] = set()

    def add(self, path: Path, *, small: bool = False) -> int:
        """The number of the picture of a file.

        Args:
            small: a lossy thumbnail will do, unless the picture is there already.
        """
        if path not in self._numbers:
            image = read_image(path)
            source = thumbnail(image) if small else embed(image)
            if source not in self._known:  # else another file with the same picture
                self._known[source] = len(self._sources)
                self._sources.append(source)
            self._numbers[path] = self._known[source]
        return self._numbers[path]

    def add_all(self, paths: Iterable[Path], *, small: bool = False) -> list[int]:
        """Their numbers."""
        return [self.add(path, small=small) for path in paths]

    def attributes(self, number: int) -> Markup:
        """Attributes of an `img` element: with the picture itself at its first place."""
        if number in self._placed:
            return Markup('data-picture="{}"').format(number)
        self._placed.add(number)
        return Markup('data-picture="{}" src="{}"').format(number, self._sources[number])

    def rest(self) -> Markup:
        """JSON of the pictures that have no place of their own on the page, by number."""
        left = {n: source for n, source in enumerate(self._sources) if n not in self._placed}
        return in_script(left)


def in_script(value: object) -> Markup:
    """JSON for a script element: no text in it can end the element.

    >>> str(in_script("</script>"))
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
