"""What images are worth to a classifier: train on real or synthetic ones, test on real or synthetic ones.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation._lazy import lazy_names

if TYPE_CHECKING:
    from evaluation.classifier.arms import ARMS, five_arms
    from evaluation.classifier.bootstrap import GroupBootstrap, holm
    from evaluation.classifier.images import ClassifierError, LabelledImages
    from evaluation.classifier.learners import Learner, ProbeLearner
    from evaluation.classifier.network import NetworkLearner
    from evaluation.classifier.results import ArmRow, ArmsResult, Difference, Run
    from evaluation.classifier.scores import METRICS, classifier_scores, expected_calibration_error

_HOME = {
    "ARMS": "evaluation.classifier.arms",
    "METRICS": "evaluation.classifier.scores",
    "ArmRow": "evaluation.classifier.results",
    "ArmsResult": "evaluation.classifier.results",
    "ClassifierError": "evaluation.classifier.images",
    "Difference": "evaluation.classifier.results",
    "GroupBootstrap": "evaluation.classifier.bootstrap",
    "LabelledImages": "evaluation.classifier.images",
    "Learner": "evaluation.classifier.learners",
    "NetworkLearner": "evaluation.classifier.network",
    "ProbeLearner": "evaluation.classifier.learners",
    "Run": "evaluation.classifier.results",
    "classifier_scores": "evaluation.classifier.scores",
    "expected_calibration_error": "evaluation.classifier.scores",
    "five_arms": "evaluation.classifier.arms",
    "holm": "evaluation.classifier.bootstrap",
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

__getattr__, __dir__ = lazy_names(__name__, _HOME)
