"""Encoders and metrics for sets of images; every result an `Estimate`.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.compare import paired_difference
    from evaluation.encoders.backend import (
        Encoder,
        EncoderError,
        TextEncoder,
        load_encoder,
        load_text_encoder,
    )
    from evaluation.estimate import Estimate
    from evaluation.feature_store import FeatureStore, FeatureStoreError
    from evaluation.metrics.alignment import ClassWeights, class_weights, margins, probabilities
    from evaluation.metrics.diversity import diversity
    from evaluation.metrics.frechet import frechet_distance
    from evaluation.metrics.inception_score import inception_score
    from evaluation.metrics.kid import kid
    from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
    from evaluation.probe import Probe, fit_probe, synthetic_to_real

_HOME = {
    "ClassWeights": "evaluation.metrics.alignment",
    "Encoder": "evaluation.encoders.backend",
    "EncoderError": "evaluation.encoders.backend",
    "Estimate": "evaluation.estimate",
    "FeatureStore": "evaluation.feature_store",
    "FeatureStoreError": "evaluation.feature_store",
    "Probe": "evaluation.probe",
    "TextEncoder": "evaluation.encoders.backend",
    "class_weights": "evaluation.metrics.alignment",
    "diversity": "evaluation.metrics.diversity",
    "fit_probe": "evaluation.probe",
    "frechet_distance": "evaluation.metrics.frechet",
    "inception_score": "evaluation.metrics.inception_score",
    "kid": "evaluation.metrics.kid",
    "load_encoder": "evaluation.encoders.backend",
    "load_text_encoder": "evaluation.encoders.backend",
    "margins": "evaluation.metrics.alignment",
    "median_bandwidth": "evaluation.metrics.mmd",
    "mmd": "evaluation.metrics.mmd",
    "mmd_contributions": "evaluation.metrics.mmd",
    "paired_difference": "evaluation.compare",
    "probabilities": "evaluation.metrics.alignment",
    "synthetic_to_real": "evaluation.probe",
}

__all__ = [
    "ClassWeights",
    "Encoder",
    "EncoderError",
    "Estimate",
    "FeatureStore",
    "FeatureStoreError",
    "Probe",
    "TextEncoder",
    "class_weights",
    "diversity",
    "fit_probe",
    "frechet_distance",
    "inception_score",
    "kid",
    "load_encoder",
    "load_text_encoder",
    "margins",
    "median_bandwidth",
    "mmd",
    "mmd_contributions",
    "paired_difference",
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
