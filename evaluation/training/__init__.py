"""Training of the project's own CLIP encoders and judges on a prepared data set."""

from importlib import import_module
from typing import Any

_HOMES = {
    "ClipSpec": "recipe",
    "JudgeSpec": "recipe",
    "RecipeError": "recipe",
    "load_recipe": "recipe",
    "Progress": "loop",
    "TrainingError": "loop",
    "train_clip": "clip",
    "train_judge": "judge",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
