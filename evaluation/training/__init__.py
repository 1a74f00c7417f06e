"""Training of the project's own CLIP encoders and judges on a prepared data set."""

from promptopt.base.lazy import lazy_names

_HOME = {
    "ClipSpec": "evaluation.training.recipe",
    "JudgeSpec": "evaluation.training.recipe",
    "Progress": "promptopt.base.training.progress",
    "RecipeError": "evaluation.training.recipe",
    "TrainingError": "promptopt.base.training.errors",
    "load_recipe": "evaluation.training.recipe",
    "train_clip": "evaluation.training.clip",
    "train_judge": "evaluation.training.judge",
}
__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
