"""Training of generators: Stable Diffusion from scratch or from a checkpoint, resumable and readable."""

from importlib import import_module
from typing import Any

_NAMES = {
    "RecipeError": "spec",
    "SdTrainingSpec": "spec",
    "load_recipe": "spec",
    "push_folder": "push",
    "save_lora": "lora_export",
    "Progress": "loop",
    "TrainingError": "errors",
    "TrainingDataError": "errors",
    "Judge": "validation",
    "Score": "validation",
    "train_dreambooth": "dreambooth",
    "train_sd": "finetune",
    "train_vae_stage": "vae_stage",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
