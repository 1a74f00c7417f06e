"""From images to numbers: per-image contributions, metrics, and the score against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.comparison import compare
from evaluation.estimate import Estimate
from evaluation.metrics import alignment
from evaluation.metrics.diversity import diversity
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import kid
from evaluation.metrics.mmd import median_bandwidth, mmd, mmd_contributions
from evaluation.probe import Probe, synthetic_to_real
from promptopt.config import ScoreWeights, StudyError

if TYPE_CHECKING:
    from evaluation.encoders import TextEncoder
    from evaluation.feature_store import FeatureStore
    from evaluation.judge import Judge
    from generators.store import StoredImage

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

SIGNS = {"alignment": 1.0, "utility": 1.0, "distance": -1.0}  # distance: less is better
# Features may differ in their last float32 digits between batch sizes. The score is rounded far above that,
# so that such noise cannot send the search another way.
_DECIMALS = 4


@dataclass(frozen=True)
class RealPool:
    """Real images to compare with: features of the positives and of the others."""

    positives: np.ndarray
    negatives: np.ndarray

    @property
    def features(self) -> np.ndarray:
        """All of them, positives first, (n, dim)."""
        return np.concatenate([self.positives, self.negatives])

    @property
    def labels(self) -> np.ndarray:
        """True for a positive, (n,)."""
        return np.arange(len(self.positives) + len(self.negatives)) < len(self.positives)


@dataclass(frozen=True)
class Measurement:
    """One prompt's images, measured. Arrays are in the order of the seeds."""

    prompt: str
    images: tuple[StoredImage, ...]
    per_image: Mapping[str, FloatArray]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Score:
    """The score of one prompt: `estimate` is the mean of `per_image`, in baseline SDs."""

    estimate: Estimate
    per_image: FloatArray


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Measures prompts in one encoder against one set of real images.

    Attributes:
        class_weights: text classifier over fixed texts (never the candidate prompt).
        target: the class that the images should show.
        probe: linear probe trained on the real reference pool.
        distance_to: features of the real positives that the generated images should resemble.
        training_negatives: real negatives for the probe trained on synthetic positives.
        held_out: real images that this probe is tested on; the test pool in confirmation.
    """

    encoder: TextEncoder
    features: FeatureStore
    class_weights: alignment.ClassWeights
    target: str
    probe: Probe
    distance_to: np.ndarray
    bandwidth: float
    training_negatives: np.ndarray
    held_out: RealPool
    weights: ScoreWeights
    seed: int
    judge: Judge | None = None
    judge_target: str | None = None

    def measure(self, prompt: str, images: Sequence[StoredImage]) -> Measurement:
        """Features, per-image contributions and metrics of one prompt's images."""
        own = self.features.features(self.encoder, [image.path for image in images])
        per_image: dict[str, FloatArray] = {
            "alignment": alignment.margins(own, self.class_weights, target=self.target),
            "utility": np.asarray(self.probe.log_odds(own), dtype=np.float64),
            "distance": mmd_contributions(own, self.distance_to, bandwidth=self.bandwidth),
        }
        estimates = {
            "alignment": Estimate.of_mean(per_image["alignment"]),
            "utility": Estimate.of_mean(per_image["utility"]),
            "mmd": mmd(own, self.distance_to, bandwidth=self.bandwidth),
            "kid": kid(own, self.distance_to),
            "frechet": frechet_distance(own, self.distance_to),
            "diversity": diversity(own),
            "synthetic_to_real": synthetic_to_real(
                own,
                self.training_negatives,
                val_features=self.held_out.features,
                val_labels=self.held_out.labels,
                seed=self.seed,
            ),
        }
        if self.judge is not None:
            reading = self.judge.read([image.load() for image in images])
            names = list(self.judge.names["category"])
            right = reading.category_probabilities.argmax(axis=1) == names.index(str(self.judge_target))
            per_image["judge"] = right.astype(np.float64)
            estimates["judge_accuracy"] = Estimate.of_proportion(int(right.sum()), len(right))
            probabilities = reading.kind_probabilities
        else:
            probabilities = alignment.probabilities(own, self.class_weights)
        estimates["inception_score"] = inception_score(probabilities, splits=1, seed=self.seed)
        return Measurement(prompt, tuple(images), per_image, estimates)

    def score(self, candidate: Measurement, baseline: Measurement) -> Score:
        """Weighted sum of the differences from the baseline on the same seeds, in the baseline's SDs.

        Raises:
            StudyError: the baseline's images are all alike in some term, so it has no unit.
        """
        total = np.zeros(len(candidate.images))
        for name, sign in SIGNS.items():
            weight = getattr(self.weights, name)
            if weight == 0:
                continue
            reference = baseline.per_image[name]
            unit = float(np.std(reference, ddof=1))
            if unit <= 1e-9 * max(1.0, float(np.abs(reference).max())):
                raise StudyError(
                    f"the baseline prompt {baseline.prompt!r} gives {len(reference)} images that are all "
                    f"equal in {name}, so differences have no unit. Check the generator, or set "
                    f"score.{name} to 0."
                )
            total += sign * weight * (candidate.per_image[name] - reference) / unit
        total = np.round(total, _DECIMALS)
        return Score(Estimate.of_mean(total), total)

    @staticmethod
    def difference(first: Score, other: Score) -> Estimate:
        """`first` minus `other`, paired by seed."""
        return compare(first.per_image, other.per_image)


def study_bandwidth(positives: np.ndarray, baseline: np.ndarray) -> float:
    """Kernel width of a study, the same for every prompt: the larger of two median distances.

    One is among the real positives, the other from them to the images of the baseline. With the first alone,
    images further from the reals than these are from each other lie where the kernel is flat: their distances
    are all the same, and the SD of these, the unit of the score, is next to nothing.

    Args:
        positives: features of real images, shape (m, dim).
        baseline: features of the baseline prompt's images, shape (n, dim).
    """
    from scipy.spatial.distance import cdist

    across = cdist(np.asarray(baseline, dtype=np.float64), np.asarray(positives, dtype=np.float64))
    return max(median_bandwidth(positives), float(np.median(across)))
