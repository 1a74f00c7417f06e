"""What differs between two settings, for messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, place: str = "") -> list[str]:
    """`key: old -> new` for every value that differs, nested keys with dots; long values are cut.

    Example:
        >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
        ['a.b: 1 -> 3']
    """
    found: list[str] = []
    for key in sorted({*old, *new}):
        a, b, own = old.get(key), new.get(key), f"{place}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, place=f"{own}.")
        elif a != b:
            found.append(f"{own}: {_cut(a)} -> {_cut(b)}")
    return found


def _cut(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
