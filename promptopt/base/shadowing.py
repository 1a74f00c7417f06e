"""A file of the user's that hides one of the project's packages, said by name at import."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from promptopt.base.errors import PromptoptError

PACKAGES = ("generators", "evaluation", "studies")
"""The packages beside promptopt; all of them lie in one folder."""
_HOME = Path(__file__).resolve().parents[2]


class ShadowedError(PromptoptError, ImportError):
    """Python would import a file or folder of the user's in place of a package of the project."""


def check_packages() -> None:
    """Raises ShadowedError where another module has the name of one of `PACKAGES`."""
    for name in PACKAGES:
        spec = _spec(name)
        if spec is None or not (places := _places(spec)):  # nothing there, or nothing on disk: import says so
            continue
        own = _HOME / name
        if own not in (place if place.is_dir() else place.parent for place in places):
            raise ShadowedError(
                f"hides the package {name!r} of promptopt, which lies in {own}",
                file=places[0],
                remedy="Rename it, or start Python from another folder: the folder of a script comes first "
                "on Python's path.",
            )


def _spec(name: str) -> ModuleSpec | None:
    loaded = sys.modules.get(name)
    return find_spec(name) if loaded is None else loaded.__spec__


def _places(spec: ModuleSpec) -> list[Path]:
    if spec.has_location and spec.origin is not None:
        return [Path(spec.origin).resolve()]
    return [Path(place).resolve() for place in spec.submodule_search_locations or ()]
