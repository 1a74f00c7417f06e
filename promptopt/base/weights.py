"""After a network is loaded: each of its tensors came from the file, and the file holds no other.

The libraries fill what a file lacks with random numbers and only warn, so that a number comes out which means
nothing and differs from process to process.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from promptopt.base.errors import PromptoptError

REMEDY = "Copy or download the file again, or save the network again."
_SHOWN = 3


def require_all(
    file: str | os.PathLike[str],
    *,
    missing: Collection[str] = (),
    unexpected: Collection[str] = (),
    mismatched: Collection[str] = (),
    error: type[PromptoptError] = PromptoptError,
    remedy: str = REMEDY,
) -> None:
    """Refuse a network whose file does not hold exactly its tensors.

    Args:
        file: the weights, or the folder they are in; named in the message.
        missing: tensors of the network that the file lacks.
        unexpected: tensors of the file that the network has no place for.
        mismatched: tensors of another shape.
        error: the class to raise.
        remedy: what to do.

    Raises:
        PromptoptError: as ``error``, when any of the three holds a name; the message lists the first names.

    Example:
        >>> require_all("model.safetensors", missing=["fc.bias"])
        Traceback (most recent call last):
        ...
        promptopt.base.errors.PromptoptError: model.safetensors: lacks 1 of the network's tensors (fc.bias); \
no network with random weights is used. Copy or download the file again, or save the network again.
    """
    faults = [
        f"{words.format(count=len(names))} ({_listed(names)})"
        for words, names in (
            ("lacks {count} of the network's tensors", missing),
            ("holds {count} that the network has no place for", unexpected),
            ("holds {count} of another shape", mismatched),
        )
        if names
    ]
    if faults:
        consequence = "; no network with random weights is used" if missing or mismatched else ""
        raise error(f"{', '.join(faults)}{consequence}", file=file, remedy=remedy)


def require_loaded(
    info: Mapping[str, Any],
    file: str | os.PathLike[str],
    *,
    error: type[PromptoptError] = PromptoptError,
    remedy: str = REMEDY,
) -> None:
    """`require_all` of what ``from_pretrained(..., output_loading_info=True)`` reports.

    transformers and diffusers leave out of it what they know to be harmless, such as buffers of old versions.
    """
    mismatched = [item if isinstance(item, str) else str(item[0]) for item in info["mismatched_keys"]]
    require_all(
        file,
        missing=info["missing_keys"],
        unexpected=info["unexpected_keys"],
        mismatched=mismatched,
        error=error,
        remedy=remedy,
    )


def require_same(
    network: Mapping[str, Any],
    tensors: Mapping[str, Any],
    file: str | os.PathLike[str],
    *,
    error: type[PromptoptError] = PromptoptError,
    remedy: str = REMEDY,
) -> None:
    """`require_all` of a network's ``state_dict()`` and the tensors read from a file, by name and shape."""
    require_all(
        file,
        missing=network.keys() - tensors.keys(),
        unexpected=tensors.keys() - network.keys(),
        mismatched=[
            name
            for name in network.keys() & tensors.keys()
            if tuple(network[name].shape) != tuple(tensors[name].shape)
        ],
        error=error,
        remedy=remedy,
    )


def _listed(names: Collection[str]) -> str:
    first = sorted(names)[:_SHOWN]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
