"""Training of generators: Stable Diffusion from scratch or from a checkpoint, resumable and readable."""

from promptopt.base.lazy import lazy_names

_HOME = {
    "Judge": "generators.training.validation",
    "Progress": "promptopt.base.training.progress",
    "RecipeError": "generators.training.spec",
    "Score": "generators.training.validation",
    "SdTrainingSpec": "generators.training.spec",
    "TrainingDataError": "promptopt.base.training.errors",
    "TrainingError": "promptopt.base.training.errors",
    "load_recipe": "generators.training.spec",
    "push_folder": "generators.training.push",
    "save_lora": "generators.training.lora_export",
    "train_dreambooth": "generators.training.dreambooth",
    "train_sd": "generators.training.finetune",
    "train_vae_stage": "generators.training.vae_stage",
}
__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
