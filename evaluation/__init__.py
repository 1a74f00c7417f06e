"""Encoders and metrics for sets of images; every result an `Estimate`.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation._lazy import lazy_names

if TYPE_CHECKING:
    from evaluation.calibration import Calibration, CalibrationError, calibrate
    from evaluation.classifier.arms import five_arms
    from evaluation.classifier.bootstrap import holm
    from evaluation.classifier.images import ClassifierError, LabelledImages
    from evaluation.classifier.learners import ProbeLearner
    from evaluation.classifier.network import NetworkLearner
    from evaluation.classifier.results import ArmsResult
    from evaluation.classifier.scores import expected_calibration_error
    from evaluation.comparison import compare
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
    from evaluation.metrics.duplicates import Duplicates, duplicates
    from evaluation.metrics.frechet import frechet_distance
    from evaluation.metrics.frechet_infinity import frechet_infinity
    from evaluation.metrics.inception_score import inception_score
    from evaluation.metrics.kid import kid
    from evaluation.metrics.memorisation import Memorisation, memorisation
    from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
    from evaluation.probe import Probe, fit_probe, synthetic_to_real
    from evaluation.report import Evaluation, evaluate
    from evaluation.statistics import FeatureStatistics, StatisticsError, StatisticsManifest

_HOME = {
    "Alignment": "evaluation.metrics.alignment",
    "ArmsResult": "evaluation.classifier.results",
    "Calibration": "evaluation.calibration",
    "CalibrationError": "evaluation.calibration",
    "ClassWeights": "evaluation.metrics.alignment",
    "ClassifierError": "evaluation.classifier.images",
    "Duplicates": "evaluation.metrics.duplicates",
    "Encoder": "evaluation.encoders.backend",
    "EncoderError": "evaluation.encoders.backend",
    "Estimate": "evaluation.estimate",
    "Evaluation": "evaluation.report",
    "EvaluationError": "evaluation.image_set",
    "FeatureStatistics": "evaluation.statistics",
    "FeatureStore": "evaluation.feature_store",
    "FeatureStoreError": "evaluation.feature_store",
    "ImageSet": "evaluation.image_set",
    "JudgeGap": "evaluation.held_out",
    "LabelledImages": "evaluation.classifier.images",
    "Memorisation": "evaluation.metrics.memorisation",
    "NetworkLearner": "evaluation.classifier.network",
    "Probe": "evaluation.probe",
    "ProbeLearner": "evaluation.classifier.learners",
    "StatisticsError": "evaluation.statistics",
    "StatisticsManifest": "evaluation.statistics",
    "TextEncoder": "evaluation.encoders.backend",
    "alignment": "evaluation.metrics.alignment",
    "auroc": "evaluation.metrics.auroc",
    "calibrate": "evaluation.calibration",
    "class_weights": "evaluation.metrics.alignment",
    "clip_scores": "evaluation.metrics.alignment",
    "compare": "evaluation.comparison",
    "diversity": "evaluation.metrics.diversity",
    "duplicates": "evaluation.metrics.duplicates",
    "evaluate": "evaluation.report",
    "expected_calibration_error": "evaluation.classifier.scores",
    "fit_probe": "evaluation.probe",
    "five_arms": "evaluation.classifier.arms",
    "frechet_distance": "evaluation.metrics.frechet",
    "frechet_infinity": "evaluation.metrics.frechet_infinity",
    "holm": "evaluation.classifier.bootstrap",
    "inception_score": "evaluation.metrics.inception_score",
    "judge_gap": "evaluation.held_out",
    "kid": "evaluation.metrics.kid",
    "load_encoder": "evaluation.encoders.backend",
    "load_text_encoder": "evaluation.encoders.backend",
    "margins": "evaluation.metrics.alignment",
    "median_bandwidth": "evaluation.metrics.mmd",
    "memorisation": "evaluation.metrics.memorisation",
    "mmd": "evaluation.metrics.mmd",
    "mmd_contributions": "evaluation.metrics.mmd",
    "probabilities": "evaluation.metrics.alignment",
    "read_image_set": "evaluation.image_set",
    "synthetic_to_real": "evaluation.probe",
}

__all__ = [
    "Alignment",
    "ArmsResult",
    "Calibration",
    "CalibrationError",
    "ClassWeights",
    "ClassifierError",
    "Duplicates",
    "Encoder",
    "EncoderError",
    "Estimate",
    "Evaluation",
    "EvaluationError",
    "FeatureStatistics",
    "FeatureStore",
    "FeatureStoreError",
    "ImageSet",
    "JudgeGap",
    "LabelledImages",
    "Memorisation",
    "NetworkLearner",
    "Probe",
    "ProbeLearner",
    "StatisticsError",
    "StatisticsManifest",
    "TextEncoder",
    "alignment",
    "auroc",
    "calibrate",
    "class_weights",
    "clip_scores",
    "compare",
    "diversity",
    "duplicates",
    "evaluate",
    "expected_calibration_error",
    "fit_probe",
    "five_arms",
    "frechet_distance",
    "frechet_infinity",
    "holm",
    "inception_score",
    "judge_gap",
    "kid",
    "load_encoder",
    "load_text_encoder",
    "margins",
    "median_bandwidth",
    "memorisation",
    "mmd",
    "mmd_contributions",
    "probabilities",
    "read_image_set",
    "synthetic_to_real",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
