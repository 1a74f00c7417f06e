"""Encoders and metrics for sets of images; every result an `Estimate`.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.calibration import Calibration, CalibrationError, calibrate
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
    from evaluation.held_out import JudgeGap, judge_gap
    from evaluation.image_set import EvaluationError, ImageSet, read_image_set
    from evaluation.metrics.alignment import (
        Alignment,
        ClassWeights,
        alignment,
        class_weights,
        clip_scores,
        margins,
        probabilities,
    )
    from evaluation.metrics.auroc import auroc
    from evaluation.metrics.diversity import diversity
    from evaluation.metrics.frechet import frechet_distance
    from evaluation.metrics.inception_score import inception_score
    from evaluation.metrics.kid import kid
    from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
    from evaluation.probe import Probe, fit_probe, synthetic_to_real
    from evaluation.report import Evaluation, evaluate

_HOME = {
    "Alignment": "evaluation.metrics.alignment",
    "Calibration": "evaluation.calibration",
    "CalibrationError": "evaluation.calibration",
    "ClassWeights": "evaluation.metrics.alignment",
    "Encoder": "evaluation.encoders.backend",
    "EncoderError": "evaluation.encoders.backend",
    "Estimate": "evaluation.estimate",
    "Evaluation": "evaluation.report",
    "EvaluationError": "evaluation.image_set",
    "FeatureStore": "evaluation.feature_store",
    "FeatureStoreError": "evaluation.feature_store",
    "ImageSet": "evaluation.image_set",
    "JudgeGap": "evaluation.held_out",
    "Probe": "evaluation.probe",
    "TextEncoder": "evaluation.encoders.backend",
    "alignment": "evaluation.metrics.alignment",
    "auroc": "evaluation.metrics.auroc",
    "calibrate": "evaluation.calibration",
    "class_weights": "evaluation.metrics.alignment",
    "clip_scores": "evaluation.metrics.alignment",
    "diversity": "evaluation.metrics.diversity",
    "evaluate": "evaluation.report",
    "fit_probe": "evaluation.probe",
    "frechet_distance": "evaluation.metrics.frechet",
    "inception_score": "evaluation.metrics.inception_score",
    "judge_gap": "evaluation.held_out",
    "kid": "evaluation.metrics.kid",
    "load_encoder": "evaluation.encoders.backend",
    "load_text_encoder": "evaluation.encoders.backend",
    "margins": "evaluation.metrics.alignment",
    "median_bandwidth": "evaluation.metrics.mmd",
    "mmd": "evaluation.metrics.mmd",
    "mmd_contributions": "evaluation.metrics.mmd",
    "paired_difference": "evaluation.compare",
    "probabilities": "evaluation.metrics.alignment",
    "read_image_set": "evaluation.image_set",
    "synthetic_to_real": "evaluation.probe",
}

__all__ = [
    "Alignment",
    "Calibration",
    "CalibrationError",
    "ClassWeights",
    "Encoder",
    "EncoderError",
    "Estimate",
    "Evaluation",
    "EvaluationError",
    "FeatureStore",
    "FeatureStoreError",
    "ImageSet",
    "JudgeGap",
    "Probe",
    "TextEncoder",
    "alignment",
    "auroc",
    "calibrate",
    "class_weights",
    "clip_scores",
    "diversity",
    "evaluate",
    "fit_probe",
    "frechet_distance",
    "inception_score",
    "judge_gap",
    "kid",
    "load_encoder",
    "load_text_encoder",
    "margins",
    "median_bandwidth",
    "mmd",
    "mmd_contributions",
    "paired_difference",
    "probabilities",
    "read_image_set",
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
