"""The lists of a synthesis, in the order of its plan, whatever order its images come in."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from promptopt.synthesis.folder import IMAGES
from promptopt.synthesis.manifest import manifest_row

if TYPE_CHECKING:
    from generators.store import StoredImage
    from promptopt.synthesis.index import Entry, Index
    from promptopt.synthesis.manifest import ManifestWriter
    from promptopt.synthesis.plan import Item


class Listing:
    """Writes manifest and index: an image once all before it are there, so that few have to wait.

    Args:
        uri: of the generator.
    """

    def __init__(self, manifest: ManifestWriter, index: Index, *, uri: str) -> None:
        self.rows = 0
        self._manifest, self._index, self._uri = manifest, index, uri
        self._line: deque[Item] = deque()
        self._there: dict[str, tuple[StoredImage, Entry] | None] = {}

    def expect(self, item: Item) -> None:
        """The next image of the plan."""
        self._line.append(item)

    def there(self, item: Item, image: StoredImage, entry: Entry) -> None:
        """An image that was expected lies in its place."""
        self._there[item.name] = image, entry
        self._write()

    def leave_out(self, item: Item) -> None:
        """An image that was expected will not come."""
        self._there[item.name] = None
        self._write()

    def close(self) -> None:
        """Write what is there, and leave out what is not."""
        for item in self._line:
            self._there.setdefault(item.name, None)
        self._write()

    def _write(self) -> None:
        while self._line and self._line[0].name in self._there:
            item = self._line.popleft()
            if (known := self._there.pop(item.name)) is None:
                continue
            image, entry = known
            self._index.add(entry)
            self._manifest.write(
                manifest_row(
                    f"{IMAGES}/{item.name}", item.prompt.number, item.image, image,
                    request=item.request, uri=self._uri,
                )
            )  # fmt: skip
            self.rows += 1
