"""Addresses of models on the Hugging Face hub, and what to say where one cannot be had."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from promptopt.base.errors import PromptoptError

PREFIX = "hf:"

_PART = r"\w(?:[\w.-]*\w)?"
_ADDRESS = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:/(?P<file>(?:{_PART}/)*{_PART}\.safetensors))?"
    rf"(?:@(?P<revision>{_PART}(?:/{_PART})*))?",
    re.ASCII,
)


class HubError(PromptoptError, ValueError):
    """An address that is none, or a model that cannot be downloaded."""


@dataclass(frozen=True)
class HubAddress:
    """``hf:owner/name[/file.safetensors][@revision]``.

    Attributes:
        repository: owner/name.
        revision: branch, tag or commit; None for the main one.
        file: within the repository; None for the whole.
        prefix: what the address begins with.
    """

    repository: str
    revision: str | None = None
    file: str | None = None
    prefix: str = PREFIX

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        revision: str | None = None,
        file: bool = False,
        prefix: str = PREFIX,
        error: type[PromptoptError] = HubError,
    ) -> HubAddress:
        """Read an address.

        Args:
            text: with the prefix.
            revision: given beside the address.
            file: whether it may name a file.
            prefix: what it begins with.
            error: the class to raise.

        Raises:
            HubError: (or `error`) another form, a ``..``, other characters than the hub has, or two
                revisions that differ.

        Example:
            >>> HubAddress.parse("hf:owner/name@v1").revision
            'v1'
        """
        match = _ADDRESS.fullmatch(text.removeprefix(prefix)) if text.startswith(prefix) else None
        if match is None or ".." in text or (match["file"] and not file):
            form = f"{prefix}owner/name or {prefix}owner/name@revision"
            also = f", {prefix}owner/name/file.safetensors" if file else ""
            raise error(f"{text}: not a hub address; write {form}{also}")
        pinned = match["revision"]
        if pinned and revision and pinned != revision:
            raise error(f"{text}: two revisions, {pinned!r} and {revision!r}; give one")
        return cls(match["repository"], revision or pinned, match["file"], prefix)

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{self.prefix}{self.repository}{file}" + (f"@{self.revision}" if self.revision else "")


_BARE = re.compile(rf"{_PART}/{_PART}(?:@{_PART}(?:/{_PART})*)?", re.ASCII)
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".yaml", ".json")


def with_prefix(text: str, base: Path | None = None) -> str:
    """``owner/name`` as ``hf:owner/name``; any other text, and a path that may be meant, as it is.

    A path may be meant where a folder of the first name is in `base` (the current folder).

    Example:
        >>> with_prefix("stabilityai/sdxl-turbo"), with_prefix("models/a/b"), with_prefix("./models/sd")
        ('hf:stabilityai/sdxl-turbo', 'models/a/b', './models/sd')
    """
    if not _BARE.fullmatch(text) or ".." in text or text.partition("@")[0].endswith(_FILES):
        return text
    here = base or Path()
    return text if (here / text.split("/", 1)[0]).exists() else PREFIX + text


@contextmanager
def downloading(
    address: HubAddress, *, error: type[PromptoptError] = HubError, instead: str = "a local folder"
) -> Iterator[None]:
    """Turn whatever the hub's client raises in the block into one sentence.

    Raises:
        HubError: (or `error`) the download failed; `instead` is what could be given in its place.
    """
    try:
        yield
    except Exception as fault:  # the client's transport errors share no base class across its versions
        reason = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise error(
            f"{address}: is not in the cache and cannot be downloaded ({reason}); check name, revision and "
            "connection (HF_HUB_OFFLINE must not be 1 for a first download), or give " + instead
        ) from fault
