"""Encoders and metrics for sets of images; every result an `Estimate`.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "ClassWeights": "evaluation.metrics.alignment",
    "Encoder": "evaluation.encoders.backend",
    "EncoderError": "evaluation.encoders.backend",
    "Estimate": "evaluation.estimate",
    "FeatureStatistics": "evaluation.statistics",
    "FeatureStore": "evaluation.feature_store",
    "FeatureStoreError": "evaluation.feature_store",
    "Memorisation": "evaluation.metrics.memorisation",
    "Probe": "evaluation.probe",
    "StatisticsError": "evaluation.statistics",
    "StatisticsManifest": "evaluation.statistics",
    "TextEncoder": "evaluation.encoders.backend",
    "class_weights": "evaluation.metrics.alignment",
    "compare": "evaluation.compare",
    "diversity": "evaluation.metrics.diversity",
    "fit_probe": "evaluation.probe",
    "frechet_distance": "evaluation.metrics.frechet",
    "frechet_infinity": "evaluation.metrics.frechet_infinity",
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
    "ClassWeights",
    "Encoder",
    "EncoderError",
    "Estimate",
    "FeatureStatistics",
    "FeatureStore",
    "FeatureStoreError",
    "Memorisation",
    "Probe",
    "StatisticsError",
    "StatisticsManifest",
    "TextEncoder",
    "class_weights",
    "compare",
    "diversity",
    "fit_probe",
    "frechet_distance",
    "frechet_infinity",
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
