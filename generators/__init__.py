"""Text-to-image generators: requests, backends, the image store, training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptopt.base.lazy import lazy_names

if TYPE_CHECKING:
    from generators.bad_images import BadImage, BadImageError
    from generators.base import Generator
    from generators.errors import BatchHalvedError, GeneratorError, PromptTooLongError, StoreError
    from generators.fetching import fetch
    from generators.loading import load
    from generators.request import ImageRequest
    from generators.store import ImageStore, StoredImage

_HOME = {
    "BadImage": "generators.bad_images",
    "BadImageError": "generators.bad_images",
    "BatchHalvedError": "generators.errors",
    "Generator": "generators.base",
    "GeneratorError": "generators.errors",
    "ImageRequest": "generators.request",
    "ImageStore": "generators.store",
    "PromptTooLongError": "generators.errors",
    "StoreError": "generators.errors",
    "StoredImage": "generators.store",
    "fetch": "generators.fetching",
    "load": "generators.loading",
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
    "fetch",
    "load",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
