"""Encoders and metrics for sets of images; every result an `Estimate`.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.classifier.arms import five_arms
    from evaluation.classifier.bootstrap import holm
    from evaluation.classifier.images import ClassifierError, LabelledImages
    from evaluation.classifier.learners import ProbeLearner
    from evaluation.classifier.network import NetworkLearner
    from evaluation.classifier.results import ArmsResult
    from evaluation.classifier.scores import expected_calibration_error
    from evaluation.compare import compare
    from evaluation.encoders.backend import Encoder, EncoderError, TextEncoder, load_encoder
    from evaluation.estimate import Estimate
    from evaluation.feature_store import FeatureStore, FeatureStoreError
    from evaluation.metrics.alignment import ClassWeights, class_weights, margins, probabilities
    from evaluation.metrics.diversity import diversity
    from evaluation.metrics.frechet import frechet_distance
    from evaluation.metrics.frechet_infinity import frechet_infinity
    from evaluation.metrics.inception_score import inception_score
    from evaluation.metrics.kid import kid
    from evaluation.metrics.memorisation import Memorisation, memorisation
    from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
    from evaluation.probe import Probe, fit_probe, synthetic_to_real
    from evaluation.statistics import FeatureStatistics, StatisticsError, StatisticsManifest

_HOME = {
    "ArmsResult": "evaluation.classifier.results",
    "ClassWeights": "evaluation.metrics.alignment",
    "ClassifierError": "evaluation.classifier.images",
    "Encoder": "evaluation.encoders.backend",
    "EncoderError": "evaluation.encoders.backend",
    "Estimate": "evaluation.estimate",
    "FeatureStatistics": "evaluation.statistics",
    "FeatureStore": "evaluation.feature_store",
    "FeatureStoreError": "evaluation.feature_store",
    "LabelledImages": "evaluation.classifier.images",
    "Memorisation": "evaluation.metrics.memorisation",
    "NetworkLearner": "evaluation.classifier.network",
    "Probe": "evaluation.probe",
    "ProbeLearner": "evaluation.classifier.learners",
    "StatisticsError": "evaluation.statistics",
    "StatisticsManifest": "evaluation.statistics",
    "TextEncoder": "evaluation.encoders.backend",
    "class_weights": "evaluation.metrics.alignment",
    "compare": "evaluation.compare",
    "diversity": "evaluation.metrics.diversity",
    "expected_calibration_error": "evaluation.classifier.scores",
    "fit_probe": "evaluation.probe",
    "five_arms": "evaluation.classifier.arms",
    "frechet_distance": "evaluation.metrics.frechet",
    "frechet_infinity": "evaluation.metrics.frechet_infinity",
    "holm": "evaluation.classifier.bootstrap",
    "inception_score": "evaluation.metrics.inception_score",
    "kid": "evaluation.metrics.kid",
    "load_encoder": "evaluation.encoders.backend",
    "margins": "evaluation.metrics.alignment",
    "median_bandwidth": "evaluation.metrics.mmd",
    "memorisation": "evaluation.metrics.memorisation",
    "mmd": "evaluation.metrics.mmd",
    "mmd_contributions": "evaluation.metrics.mmd",
    "probabilities": "evaluation.metrics.alignment",
    "synthetic_to_real": "evaluation.probe",
}

__all__ = [
    "ArmsResult",
    "ClassWeights",
    "ClassifierError",
    "Encoder",
    "EncoderError",
    "Estimate",
    "FeatureStatistics",
    "FeatureStore",
    "FeatureStoreError",
    "LabelledImages",
    "Memorisation",
    "NetworkLearner",
    "Probe",
    "ProbeLearner",
    "StatisticsError",
    "StatisticsManifest",
    "TextEncoder",
    "class_weights",
    "compare",
    "diversity",
    "expected_calibration_error",
    "fit_probe",
    "five_arms",
    "frechet_distance",
    "frechet_infinity",
    "holm",
    "inception_score",
    "kid",
    "load_encoder",
    "margins",
    "median_bandwidth",
    "memorisation",
    "mmd",
    "mmd_contributions",
    "probabilities",
    "synthetic_to_real",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
