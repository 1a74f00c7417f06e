"""Text-to-image generators: requests, backends, the image store, training."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generators.backend import Generator, load
    from generators.errors import (
        BadImage,
        BadImageError,
        BatchHalvedError,
        GeneratorError,
        PromptTooLongError,
        StoreError,
    )
    from generators.request import ImageRequest
    from generators.store import ImageStore, StoredImage

_HOME = {
    "BadImage": "generators.errors",
    "BadImageError": "generators.errors",
    "BatchHalvedError": "generators.errors",
    "Generator": "generators.backend",
    "GeneratorError": "generators.errors",
    "ImageRequest": "generators.request",
    "ImageStore": "generators.store",
    "PromptTooLongError": "generators.errors",
    "StoreError": "generators.errors",
    "StoredImage": "generators.store",
    "load": "generators.backend",
}

__all__ = [
    "BadImage",
    "BadImageError",
    "BatchHalvedError",
    "Generator",
    "GeneratorError",
    "ImageRequest",
    "ImageStore",
    "PromptTooLongError",
    "StoreError",
    "StoredImage",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
