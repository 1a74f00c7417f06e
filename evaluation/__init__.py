"""Encoders and metrics for sets of images; every result an `Estimate`.

Names are resolved when first used, so that importing the package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptopt.base.lazy import lazy_names

if TYPE_CHECKING:
    from evaluation.classifier.arms import five_arms
    from evaluation.classifier.images import ClassifierError, LabeledImages
    from evaluation.classifier.learners import ProbeLearner
    from evaluation.classifier.network import NetworkLearner
    from evaluation.classifier.probe import Probe, fit_probe, synthetic_to_real
    from evaluation.classifier.results import ArmsResult
    from evaluation.classifier.scores import expected_calibration_error
    from evaluation.encoders.base import Encoder, EncoderError, TextEncoder
    from evaluation.encoders.load import load_encoder, load_text_encoder
    from evaluation.estimate import Estimate
    from evaluation.features.errors import FeatureStoreError
    from evaluation.features.feature_store import FeatureStore
    from evaluation.features.image_set import EvaluationError, ImageSet, read_image_set
    from evaluation.features.moments import FeatureStatistics, StatisticsError, StatisticsManifest
    from evaluation.inference.multiple_testing import holm
    from evaluation.inference.paired import compare
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
    from evaluation.metrics.judge_gap import JudgeGap, judge_gap
    from evaluation.metrics.kid import kid
    from evaluation.metrics.memorization import Memorization, memorization
    from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
    from evaluation.report.calibration import Calibration, CalibrationError, calibrate
    from evaluation.report.evaluate import Evaluation, evaluate

_HOME = {
    "Alignment": "evaluation.metrics.alignment",
    "ArmsResult": "evaluation.classifier.results",
    "Calibration": "evaluation.report.calibration",
    "CalibrationError": "evaluation.report.calibration",
    "ClassWeights": "evaluation.metrics.alignment",
    "ClassifierError": "evaluation.classifier.images",
    "Duplicates": "evaluation.metrics.duplicates",
    "Encoder": "evaluation.encoders.base",
    "EncoderError": "evaluation.encoders.base",
    "Estimate": "evaluation.estimate",
    "Evaluation": "evaluation.report.evaluate",
    "EvaluationError": "evaluation.features.image_set",
    "FeatureStatistics": "evaluation.features.moments",
    "FeatureStore": "evaluation.features.feature_store",
    "FeatureStoreError": "evaluation.features.errors",
    "ImageSet": "evaluation.features.image_set",
    "JudgeGap": "evaluation.metrics.judge_gap",
    "LabeledImages": "evaluation.classifier.images",
    "Memorization": "evaluation.metrics.memorization",
    "NetworkLearner": "evaluation.classifier.network",
    "Probe": "evaluation.classifier.probe",
    "ProbeLearner": "evaluation.classifier.learners",
    "StatisticsError": "evaluation.features.moments",
    "StatisticsManifest": "evaluation.features.moments",
    "TextEncoder": "evaluation.encoders.base",
    "alignment": "evaluation.metrics.alignment",
    "auroc": "evaluation.metrics.auroc",
    "calibrate": "evaluation.report.calibration",
    "class_weights": "evaluation.metrics.alignment",
    "clip_scores": "evaluation.metrics.alignment",
    "compare": "evaluation.inference.paired",
    "diversity": "evaluation.metrics.diversity",
    "duplicates": "evaluation.metrics.duplicates",
    "evaluate": "evaluation.report.evaluate",
    "expected_calibration_error": "evaluation.classifier.scores",
    "fit_probe": "evaluation.classifier.probe",
    "five_arms": "evaluation.classifier.arms",
    "frechet_distance": "evaluation.metrics.frechet",
    "frechet_infinity": "evaluation.metrics.frechet_infinity",
    "holm": "evaluation.inference.multiple_testing",
    "inception_score": "evaluation.metrics.inception_score",
    "judge_gap": "evaluation.metrics.judge_gap",
    "kid": "evaluation.metrics.kid",
    "load_encoder": "evaluation.encoders.load",
    "load_text_encoder": "evaluation.encoders.load",
    "margins": "evaluation.metrics.alignment",
    "median_bandwidth": "evaluation.metrics.mmd",
    "memorization": "evaluation.metrics.memorization",
    "mmd": "evaluation.metrics.mmd",
    "mmd_contributions": "evaluation.metrics.mmd",
    "probabilities": "evaluation.metrics.alignment",
    "read_image_set": "evaluation.features.image_set",
    "synthetic_to_real": "evaluation.classifier.probe",
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
    "LabeledImages",
    "Memorization",
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
    "memorization",
    "mmd",
    "mmd_contributions",
    "probabilities",
    "read_image_set",
    "synthetic_to_real",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
