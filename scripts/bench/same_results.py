"""Are the results of two runs equal? Compares their prompts.json apart from what is listed here.

    python scripts/bench/same_results.py OLD NEW

OLD and NEW are run folders, or prompts.json files; OLD may be of the version before. Keys that were renamed
since are read by their new names, and versions are left out. The file holds no times. Every difference is
printed with its place; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Old name -> new name, by the place of the mapping that holds it; * stands for every item of a list.
RENAMED = {
    ("prompts", "*"): {"settings": "generation_parameters", "witnesses": "independent_checks"},
    ("settings", "search"): {"round": "proposals_per_step"},
    ("settings", "confirm"): {"level": "alpha"},
}
LEFT_OUT = {("version",), ("versions",), ("checksum",)}
"""Version of the file and of the packages, and the sum over all of it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = (normal(read(path)) for path in (options.old, options.new))
    differing = list(differences(old, new))
    for line in differing:
        print(line)
    print(f"{len(differing)} differences in {sum(1 for _ in leaves(old))} values of {options.old}")
    raise SystemExit(1 if differing else 0)


def read(path: Path) -> Any:
    file = path / "prompts.json" if path.is_dir() else path
    return json.loads(file.read_text(encoding="utf-8"))


def normal(value: Any, place: tuple[str, ...] = ()) -> Any:
    """The content by its new names, without what is left out."""
    if isinstance(value, list):
        return [normal(inner, (*place, "*")) for inner in value]
    if not isinstance(value, dict):
        return value
    names = RENAMED.get(place, {})
    pairs = [(names.get(key, key), inner) for key, inner in value.items()]
    return {key: normal(inner, (*place, key)) for key, inner in pairs if (*place, key) not in LEFT_OUT}


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) != list(new) and sorted(old) == sorted(new):
            yield f"{place or 'the file'}: keys in another order: {list(old)} -> {list(new)}"
        for key in dict.fromkeys([*old, *new]):
            inner = f"{place}.{key}" if place else key
            if key not in old or key not in new:
                yield f"{inner}: only in the {'old' if key in old else 'new'} file"
            else:
                yield from differences(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif type(old) is not type(new) or old != new:
        yield f"{place}: {old!r} -> {new!r}"


def leaves(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        yield value
        return
    for one in inner:
        yield from leaves(one)


if __name__ == "__main__":
    main()
