"""What images are worth to a classifier: train on real or synthetic ones, test on real or synthetic ones.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.classifier.arms import ARMS, five_arms
    from evaluation.classifier.bootstrap import GroupBootstrap, holm
    from evaluation.classifier.images import ClassifierError, LabelledImages
    from evaluation.classifier.learners import Learner, ProbeLearner
    from evaluation.classifier.network import NetworkLearner
    from evaluation.classifier.results import ArmRow, ArmsResult, Difference, Run
    from evaluation.classifier.scores import METRICS, classifier_scores, expected_calibration_error

_HOME = {
    "ARMS": "arms",
    "METRICS": "scores",
    "ArmRow": "results",
    "ArmsResult": "results",
    "ClassifierError": "images",
    "Difference": "results",
    "GroupBootstrap": "bootstrap",
    "LabelledImages": "images",
    "Learner": "learners",
    "NetworkLearner": "network",
    "ProbeLearner": "learners",
    "Run": "results",
    "classifier_scores": "scores",
    "expected_calibration_error": "scores",
    "five_arms": "arms",
    "holm": "bootstrap",
}

__all__ = [
    "ARMS",
    "METRICS",
    "ArmRow",
    "ArmsResult",
    "ClassifierError",
    "Difference",
    "GroupBootstrap",
    "LabelledImages",
    "Learner",
    "NetworkLearner",
    "ProbeLearner",
    "Run",
    "classifier_scores",
    "expected_calibration_error",
    "five_arms",
    "holm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"evaluation.classifier.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
