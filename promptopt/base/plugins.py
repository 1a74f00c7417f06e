"""What other packages bring: generators, encoders and metrics, found by name among their entry points.

A package registers one in its `pyproject.toml`:

    [project.entry-points."promptopt.generators"]
    mymodel = "mypackage.generator:load"

From then on "mymodel:REST" is an address, and what stands behind the colon is handed to that function.
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from promptopt.base.errors import PromptoptError

GENERATORS = "promptopt.generators"
"""Group of functions `(rest, *, device, dtype, batch_size, compile, revision) -> Generator`."""
ENCODERS = "promptopt.encoders"
"""Group of functions `(rest, *, device) -> Encoder`."""
METRICS = "promptopt.metrics"
"""Group of `promptopt.ImageMetric` objects, or functions without arguments that make one."""

_SCHEME = re.compile(r"(?P<name>[A-Za-z][\w-]+):.*", re.DOTALL)  # two letters or more: "C:" is a drive


class PluginError(PromptoptError, ValueError):
    """A plug-in cannot be loaded, or two packages bring one of the same name."""


def names(group: str) -> list[str]:
    """Names that installed packages register in a group, sorted.

    Example:
        >>> "nobody-has-this-name" in names(METRICS)
        False
    """
    return sorted({point.name for point in entry_points(group=group)})


def scheme(address: str) -> str | None:
    """The "name" of "name:rest"; None for an address without one, such as a path.

    Example:
        >>> scheme("mymodel:weights"), scheme("folder/a:b"), scheme("C:/models")
        ('mymodel', None, None)
    """
    match = _SCHEME.fullmatch(address)
    return match["name"] if match else None


def find(group: str, name: str) -> Any | None:
    """What packages register under a name, imported; None where none does.

    Raises:
        PluginError: two packages register the name, or importing the plug-in fails.
    """
    points = {point.value: point for point in entry_points(group=group, name=name)}
    if not points:
        return None
    if len(points) > 1:
        raise PluginError(
            f"is registered {len(points)} times in {group}: {', '.join(map(_origin, points.values()))}",
            key=name,
            remedy="Uninstall all but one.",
        )
    (point,) = points.values()
    try:
        return point.load()
    except Exception as error:
        raise PluginError(
            f"cannot be loaded from {_origin(point)}: {type(error).__name__}: {error}",
            key=f"{group}: {name}",
            remedy="Update or uninstall that package.",
        ) from error


def _origin(point: EntryPoint) -> str:
    package = point.dist.name if point.dist is not None else "an unknown package"
    return f"{point.value} ({package})"
