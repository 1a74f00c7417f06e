"""JSON documents that carry the sha256 of what they say, so that damage and later changes show.

The sum is of the values, not of the bytes: indentation and the order of keys may change. It tells damage and
changes by hand; whoever wants to deceive can compute it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptopt.base.errors import PromptoptError

KEY = "checksum"


def summed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its checksum as the last key.

    >>> summed({"a": 1})["checksum"][:13]
    'sha256:015abd'
    """
    return {**content, KEY: _sum(content)}


def without_sum(path: str | Path, *, error: type[PromptoptError], remedy: str) -> bytes | None:
    """A document without its checksum, which is compared.

    A document without one is of a version before, and taken as it is. None for a file that cannot be read or
    is no JSON object: its reader says so.

    Raises:
        PromptoptError: `error`, where the checksum is another.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if KEY in content and content.pop(KEY) != _sum(content):
        raise error(
            "was damaged, or changed by hand, after it was written: its checksum is another",
            file=path,
            remedy=remedy,
        )
    return json.dumps(content, ensure_ascii=True).encode()


def _sum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
